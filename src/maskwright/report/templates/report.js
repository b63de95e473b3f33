"use strict";
const page = document.documentElement;
page.classList.add("js");
for (const frame of document.querySelectorAll(".frame")) {
  const slider = frame.querySelector("input");
  const show = () => frame.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", show);
  show();
}
for (const choice of document.querySelectorAll("[name=left]")) {
  choice.addEventListener("change", () => { page.dataset.left = choice.value; });
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
