"""maskwright"""
