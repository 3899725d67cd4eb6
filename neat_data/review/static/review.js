// Judging by keyboard. A verdict is kept in this browser until the server says that it is on its disk, and sent again
// under the same id after a lost connection, so that it counts once.
"use strict";

const page = document.getElementById("page");
const rater = page.dataset.rater;
const place = Number(page.dataset.place);
const cards = [...document.querySelectorAll("article")];
const state = document.getElementById("state");
const storage = "neat-review " + rater;
const began = Number(sessionStorage.began || (sessionStorage.began = Date.now()));
let last = page.dataset.last ? JSON.parse(page.dataset.last) : null;
let waiting = JSON.parse(localStorage.getItem(storage) || "[]");
let sending = false;
let leaving = null;

const keepWaiting = () => localStorage.setItem(storage, JSON.stringify(waiting));
const cardOf = (id) => cards.find((card) => card.dataset.id === id);
const current = () => document.activeElement?.closest?.("article") || null;
const go = (to) => { leaving = to; if (!waiting.length) location.assign(to); };
const open = () => "/judge?rater=" + encodeURIComponent(rater);
const at = (number) => open() + "&at=" + number;

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function show(card, verdict) {
  card.dataset.verdict = verdict || "";
  card.querySelectorAll("[data-say]").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.say === verdict)));
}

function say(card, verdict) {
  if (leaving) return;
  const scale = card.querySelector("input[type=radio]:checked");
  const note = card.querySelector("textarea").value.trim();
  enqueue({ event: newId(), rater, response_id: card.dataset.id, verdict,
    scale: scale ? Number(scale.value) : null, note: note || null });
  show(card, verdict);
  const next = cards.find((other) => !other.dataset.verdict);
  if (next) next.focus();
  else go(open());
}

function undo() {
  if (leaving) return;
  if (waiting.length || !last) { state.textContent = last ? "Still saving." : "Nothing to take back."; return; }
  enqueue({ event: newId(), rater, response_id: last.response_id, undoes: last.event, place: last.place });
}

function enqueue(event) {
  waiting.push(event);
  keepWaiting();
  send();
}

async function send() {
  if (sending || !waiting.length) return;
  sending = true;
  state.textContent = "Saving …";
  const event = waiting[0];
  let answer;
  try {
    const reply = await fetch("/verdict", { method: "POST", body: JSON.stringify(event),
      headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(15000) });
    answer = await reply.json();
    if (reply.status === 400) { refuse(event, answer.error); return; }
    if (!reply.ok) throw new Error(answer.error);
  } catch (error) {
    state.className = "lost";
    state.textContent = "Not saved yet: the server does not answer. It is tried again every two seconds; nothing is lost.";
    setTimeout(() => { sending = false; send(); }, 2000);
    return;
  }
  waiting.shift();
  keepWaiting();
  sending = false;
  saved(event, answer);
  if (waiting.length) send();
  else if (leaving) location.assign(leaving);
}

function refuse(event, why) {
  waiting.shift();
  keepWaiting();
  sending = false;
  leaving = null;
  const card = cardOf(event.response_id);
  if (card && event.verdict) show(card, "");
  state.className = "lost";
  state.textContent = "Refused: " + why;
  send();
}

function saved(event, answer) {
  last = answer.last;
  state.className = "";
  state.textContent = "Saved.";
  const bar = document.querySelector("progress");
  bar.value = answer.done;
  document.getElementById("progress").textContent =
    answer.done.toLocaleString("en") + " of " + bar.max.toLocaleString("en") + " judged";
  const card = cardOf(event.response_id);
  if (event.undoes) {
    if (event.place !== place || !card) { leaving = at(event.place); return; }
    show(card, "");
    card.querySelector(".facts").textContent = "";
    card.focus();
    state.textContent = "Taken back.";
    return;
  }
  sessionStorage.count = Number(sessionStorage.count || 0) + 1;
  pace();
  if (card) card.querySelector(".facts").textContent = answer.facts;
}

function pace() {
  const count = Number(sessionStorage.count || 0);
  if (count > 2) document.getElementById("pace").textContent =
    Math.round((Date.now() - began) / 1000 / count) + " s each in this sitting";
}

function lift(shown) {
  page.classList.toggle("blurred", !shown);
  document.getElementById("lift").setAttribute("aria-pressed", String(shown));
  sessionStorage.shown = shown ? "yes" : "";
}

function move(step) {
  const from = cards.indexOf(current());
  const to = cards[Math.min(cards.length - 1, Math.max(0, from + step))];
  if (to) to.focus();
}

const follow = (id) => { const link = document.getElementById(id); if (!link.hidden) go(link.href); };
const keys = {
  j: () => move(1), k: () => move(-1), u: undo, n: () => follow("after"), p: () => follow("before"),
  g: () => go(open()), b: () => lift(page.classList.contains("blurred")),
  "?": () => document.getElementById("keys").showModal(),
};
["keep", "drop", "off_prompt"].forEach((verdict, index) => {
  keys[index + 1] = () => { const card = current() || cards[0]; if (card) say(card, verdict); };
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("textarea, input:not([type=radio])")) return;
  const does = keys[event.key];
  if (does) { event.preventDefault(); does(); }
});
document.querySelectorAll("[data-say]").forEach((button) =>
  button.addEventListener("click", () => say(button.closest("article"), button.dataset.say)));
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("lift").addEventListener("click", () => lift(page.classList.contains("blurred")));
document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());

lift(sessionStorage.shown === "yes");
pace();
(cards.find((card) => !card.dataset.verdict) || cards[0])?.focus({ preventScroll: true });
send();
