// Keys for lists and records; everything they do is a link or a field that is there without them.
"use strict";

const items = [...document.querySelectorAll("a.row, article")];

function move(step) {
  const from = items.indexOf(document.activeElement.closest("a.row, article"));
  const to = items[Math.min(items.length - 1, Math.max(0, from + step))];
  if (to) to.focus();
}

const follow = (id) => document.getElementById(id)?.click();
const keys = {
  j: () => move(1), k: () => move(-1), n: () => follow("after"), p: () => follow("before"),
  m: () => follow("shown"), l: () => follow("list"), "/": () => document.getElementById("text")?.focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const does = keys[event.key];
  if (does) { event.preventDefault(); does(); }
});
