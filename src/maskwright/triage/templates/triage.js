"use strict";
const find = (id) => document.getElementById(id);
const before = JSON.parse(find("before").textContent);
const cases = [...document.querySelectorAll(".case")];
// JSON is YAML; line separators of Unicode are the exception.
const said = (value) => JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g,
  (letter) => "\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0"));
const many = (number, what) => number + " " + what + (number === 1 ? "" : "s");

function write() {
  const exclude = [...before.exclude];
  const ignore = new Map(Object.entries(before.ignore));
  let dropped = 0, ignored = 0;
  for (const each of cases) {
    const { id, boxes } = each.dataset;
    const choice = each.querySelector("input:checked").value;
    each.className = "case " + choice;
    if (choice === "drop") { exclude.push(id); ignore.delete(id); dropped += 1; }
    if (choice === "ignore") { ignore.set(id, [...(ignore.get(id) ?? []), ...JSON.parse(boxes)]); ignored += 1; }
  }
  let text = find("keys").textContent;
  if (exclude.length) text += "exclude:\n" + exclude.map((id) => "- " + said(id) + "\n").join("");
  if (ignore.size) text += "ignore:\n" + [...ignore].map(([id, boxes]) => "  " + said(id) + ": " + said(boxes) + "\n").join("");
  find("written").textContent = text;
  find("count").textContent = dropped + ignored
    ? many(dropped, "label") + " dropped, regions of " + many(ignored, "label") + " ignored" : "All labels are kept";
  return text;
}

find("cases").addEventListener("change", write);
find("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write()], { type: "application/yaml" }));
  link.download = "dataset.yaml";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
write();
