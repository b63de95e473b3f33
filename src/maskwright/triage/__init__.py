"""Labels that predictions dispute: ranked, shown, and taken out to see what it changes."""
