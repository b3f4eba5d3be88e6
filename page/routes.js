// The list of routes: asks for /routes every two seconds, sorts and filters what comes.
// Everything shown is set as text, never as markup. What is chosen stands behind the "#" of the
// address, so that it survives a reload and can be passed on.

const INTERVAL_MS = 2000;
const STALE_AFTER_MS = 5000;
/** The worst first. */
const TONES = ["bad", "warning", "busy", "good", "idle"];

const $ = (id) => document.getElementById(id);
const set = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

// Values in words

const count = (value) => Math.round(value).toLocaleString("en");

function rate(value) {
  return `${value >= 10 || value === 0 ? count(value) : value.toFixed(1)}/s`;
}

function duration(ms) {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

// Order and choice

/** What each column sorts by: larger is worse, and comes first. */
const MEASURES = {
  condition: ({ tone }) => TONES.length - TONES.indexOf(tone),
  queued: ({ queuedPackets }) => queuedPackets,
  oldest: ({ oldestAgeMs }) => oldestAgeMs ?? -1,
  rate: ({ drainedPerSecond }) => drainedPerSecond,
  dead: ({ deadPackets }) => deadPackets,
};
const byName = new Intl.Collator("en", { numeric: true });
const compareNames = (a, b) => byName.compare(a.route, b.route);

/** Those that are alike go by how long their oldest packet waits, then by their names. */
function compare(a, b) {
  if (choice.sort === "route") return choice.ascending ? compareNames(a, b) : compareNames(b, a);
  const measure = MEASURES[choice.sort];
  const difference = measure(b) - measure(a);
  if (difference !== 0) return choice.ascending ? -difference : difference;
  return MEASURES.oldest(b) - MEASURES.oldest(a) || compareNames(a, b);
}

const choice = readChoice();

function readChoice() {
  const given = new URLSearchParams(location.hash.slice(1));
  const sort = given.get("sort") ?? "condition";
  return {
    sort: sort === "route" || Object.hasOwn(MEASURES, sort) ? sort : "condition",
    ascending: given.get("order") === "ascending",
    tones: new Set((given.get("tones") ?? "").split(" ").filter((tone) => TONES.includes(tone))),
    words: given.get("words") ?? "",
  };
}

function keepChoice() {
  const chosen = new URLSearchParams();
  if (choice.sort !== "condition" || choice.ascending) chosen.set("sort", choice.sort);
  if (choice.ascending) chosen.set("order", "ascending");
  if (choice.tones.size > 0) chosen.set("tones", [...choice.tones].join(" "));
  if (choice.words !== "") chosen.set("words", choice.words);
  const hash = chosen.toString();
  history.replaceState(null, "", hash === "" ? location.pathname : `#${hash}`);
}

/** Each of the words has to be there. */
function fits(row) {
  if (choice.tones.size > 0 && !choice.tones.has(row.tone)) return false;
  const text = `${row.route} ${row.remote} ${row.headline} ${row.detail}`.toLowerCase();
  return choice.words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

// The table

let rows = [];
/** By the routes' names. */
const elements = new Map();

function elementOf({ route }) {
  const known = elements.get(route);
  if (known !== undefined) return known;
  const make = (tag, className) => {
    const element = document.createElement(tag);
    if (className !== undefined) element.className = className;
    return element;
  };
  const row = make("tr");
  const parts = {
    row,
    headline: make("strong"),
    detail: make("span", "detail"),
    link: make("a"),
    remote: make("span", "detail"),
    queued: make("td", "number"),
    oldest: make("td", "number"),
    rate: make("td", "number"),
    dead: make("td", "number"),
  };
  parts.link.href = `r/${encodeURIComponent(route)}/`;
  parts.link.textContent = route;
  const condition = make("td", "tone");
  condition.append(parts.headline, parts.detail);
  const name = make("td");
  name.append(parts.link, parts.remote);
  row.append(condition, name, parts.queued, parts.oldest, parts.rate, parts.dead);
  elements.set(route, parts);
  return parts;
}

function fill(row) {
  const parts = elementOf(row);
  if (parts.row.dataset.tone !== row.tone) parts.row.dataset.tone = row.tone;
  set(parts.headline, row.headline);
  set(parts.detail, row.detail);
  set(parts.remote, row.remote);
  set(parts.queued, count(row.queuedPackets));
  set(parts.oldest, row.oldestAgeMs === null ? "–" : duration(row.oldestAgeMs));
  set(parts.rate, rate(row.drainedPerSecond));
  set(parts.dead, row.deadPackets === 0 ? "–" : count(row.deadPackets));
  return parts.row;
}

function draw() {
  const shown = rows.filter(fits).sort(compare);
  const body = $("routes");
  // Only what has moved is moved: a link that somebody is about to press stays.
  shown.forEach((row, at) => {
    const element = fill(row);
    if (body.children[at] !== element) body.insertBefore(element, body.children[at] ?? null);
  });
  while (body.children.length > shown.length) body.lastElementChild.remove();
  $("none").hidden = shown.length > 0 || rows.length === 0;
  set($("shown"), `${count(shown.length)} of ${count(rows.length)} routes`);
  drawChoice();
}

function drawChoice() {
  for (const button of document.querySelectorAll("[data-sort]")) {
    const order = choice.ascending ? "ascending" : "descending";
    button.closest("th").ariaSort = button.dataset.sort === choice.sort ? order : "none";
  }
  for (const button of document.querySelectorAll(".tones button")) {
    const { tone } = button.dataset;
    button.ariaPressed = String(choice.tones.has(tone));
    set(button.querySelector("b"), count(rows.filter((row) => row.tone === tone).length));
  }
}

function drawSummary() {
  const bad = rows.filter(({ tone }) => tone === "bad").length;
  const words = bad === 0
    ? `${count(rows.length)} routes, all well or on their way`
    : `${count(bad)} of ${count(rows.length)} routes do not deliver`;
  set($("summary"), words);
  document.title = `${words} · sendq`;
}

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const { sort } = button.dataset;
    // Names begin with the alphabet's first, everything else with the worst.
    choice.ascending = choice.sort === sort ? !choice.ascending : sort === "route";
    choice.sort = sort;
    keepChoice();
    draw();
  });
}
for (const button of document.querySelectorAll(".tones button")) {
  button.addEventListener("click", () => {
    const { tone } = button.dataset;
    if (!choice.tones.delete(tone)) choice.tones.add(tone);
    keepChoice();
    draw();
  });
}
$("words").value = choice.words;
$("words").addEventListener("input", () => {
  choice.words = $("words").value;
  keepChoice();
  draw();
});
$("filter").addEventListener("submit", (event) => event.preventDefault());

// The feed

let heardAtMs = performance.now();

function showFeed(live) {
  if ($("feed").dataset.live === String(live)) return;
  $("feed").dataset.live = String(live);
  document.body.classList.toggle("stale", !live);
  const time = new Date().toLocaleTimeString("en-GB");
  set($("feed"), live ? "live" : `no word from sendq since ${time}`);
}

async function ask() {
  try {
    const answer = await fetch("routes", { signal: AbortSignal.timeout(STALE_AFTER_MS) });
    if (!answer.ok) throw new Error(`the server says ${answer.status}`);
    rows = (await answer.json()).routes;
    heardAtMs = performance.now();
    showFeed(true);
    drawSummary();
    draw();
  } catch {
    if (performance.now() - heardAtMs > STALE_AFTER_MS) showFeed(false);
  }
  setTimeout(askIfSeen, INTERVAL_MS);
}

/** A page that nobody looks at asks for nothing. */
function askIfSeen() {
  if (!document.hidden) return ask();
  document.addEventListener("visibilitychange", ask, { once: true });
}

ask();
