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
const subject = (event) => event.than ? [event.response_id, event.than].sort().join(" ") : event.response_id;
const cardOf = (event) => cards.find((card) => card.dataset.item === subject(event));
const current = () => document.activeElement?.closest?.("article") || null;
const go = (to) => { leaving = to; if (!waiting.length) location.assign(to); };
const open = () => "/judge?rater=" + encodeURIComponent(rater);
const at = (number) => open() + "&at=" + number;

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function show(card, word) {
  card.dataset.said = word || "";
  card.querySelectorAll("[data-say]").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.say === word)));
}

// What a button stands for: a verdict on the one response, or which of the two is worse than the other.
function verdictOf(card, word) {
  const ids = [...card.querySelectorAll(".answer")].map((answer) => answer.dataset.id);
  if (ids.length === 1) return { response_id: ids[0], verdict: word };
  const [worse, than] = word === "second" ? ids.reverse() : ids;
  return { response_id: worse, than, verdict: word === "same" ? "same" : "worse" };
}

function say(card, word) {
  if (leaving) return;
  const scale = card.querySelector("input[type=radio]:checked");
  const text = card.querySelector("textarea.edited");
  if (word === "edit" && text.value.trim() === card.querySelector(".answer .text").textContent.trim()) {
    state.textContent = "Nothing was changed.";
    text.focus();
    return;
  }
  enqueue({ event: newId(), rater, ...verdictOf(card, word), scale: scale ? Number(scale.value) : null,
    labels: [...card.querySelectorAll(".labels input:checked")].map((box) => box.value),
    note: card.querySelector("textarea.note").value.trim() || null, text: word === "edit" ? text.value : null });
  show(card, word);
  const next = cards.find((other) => !other.dataset.said);
  if (next) next.focus();
  else go(open());
}

function undo() {
  if (leaving) return;
  if (waiting.length || !last) { state.textContent = last ? "Still saving." : "Nothing to take back."; return; }
  enqueue({ event: newId(), rater, response_id: last.response_id, than: last.than, undoes: last.event, place: last.place });
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
    if (reply.status === 403) throw new Error("the server was started anew; open the address that it printed");
    answer = await reply.json();
    if (reply.status === 400) { refuse(event, answer.error); return; }
    if (!reply.ok) throw new Error(answer.error);
  } catch (error) {
    const why = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
    state.className = "lost";
    state.textContent = "Not saved yet: " + why + ". It is tried again every two seconds; nothing is lost.";
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
  const card = cardOf(event);
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
  bar.max = answer.total;
  bar.value = answer.done;
  document.getElementById("progress").textContent =
    answer.done.toLocaleString("en") + " of " + answer.total.toLocaleString("en") + " judged";
  const card = cardOf(event);
  if (event.undoes) {
    if (event.place !== place || !card) { leaving = at(event.place); return; }
    show(card, "");
    tell(card, {});
    card.focus();
    state.textContent = "Taken back.";
    return;
  }
  sessionStorage.count = Number(sessionStorage.count || 0) + 1;
  pace();
  if (card) tell(card, answer.facts);
}

function tell(card, facts) {
  card.querySelectorAll(".answer").forEach((answer) => {
    answer.querySelector(".facts").textContent = facts[answer.dataset.id] || "";
  });
}

function pace() {
  const count = Number(sessionStorage.count || 0);
  if (count < 3) return;
  const bar = document.querySelector("progress");
  const each = (Date.now() - began) / 1000 / count;
  document.getElementById("pace").textContent =
    Math.round(each) + " s each, about " + Math.ceil(each * (bar.max - bar.value) / 60) + " min left";
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
const press = (number) => {
  const card = current() || cards[0];
  const targets = card ? card.querySelectorAll("[data-say], .labels input") : [];
  targets[number - 1]?.click();
};
[1, 2, 3, 4, 5, 6, 7, 8, 9].forEach((number) => { keys[number] = () => press(number); });
keys.e = () => (current() || cards[0])?.querySelector("textarea.edited")?.focus();

// While one writes, keys are letters; Esc gives them back to the card, and Ctrl+Enter saves an edit.
function whileWriting(event) {
  const card = event.target.closest("article");
  if (event.key === "Escape") card.focus();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches(".edited")) say(card, "edit");
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.target.matches("textarea")) { whileWriting(event); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
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
(cards.find((card) => !card.dataset.said) || cards[0])?.focus({ preventScroll: true });
send();
