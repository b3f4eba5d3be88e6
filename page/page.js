// The status page: one stream of server-sent events in, text and four charts out.
// Everything shown is set as text, never as markup.

/** The charts show this much; at first less, so that a short history is not a thin line. */
const SPAN_S = 300;
const FIRST_SPAN_S = 60;
const STALE_AFTER_MS = 5000;
/** As browsers do where the connection has ended. */
const ASK_AGAIN_MS = 3000;
const MAX_EVENTS = 50;
/** Kept by the browser; the stream's own history is as long. */
const MAX_SAMPLES = 300;

const $ = (id) => document.getElementById(id);
const show = (id, text) => {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
};

// Values in words

const count = (value) => Math.round(value).toLocaleString("en");

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

function rate(value) {
  return `${value >= 10 || value === 0 ? count(value) : value.toFixed(1)}/s`;
}

function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(2) : value.toFixed(value < 100 ? 1 : 0)} ms`;
}

function duration(ms) {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 < 1 ? "" : ` ${Math.floor(s % 60)} s`}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

const timeFormat = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const dateFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const time = (ms) => timeFormat.format(ms);
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

// Charts

const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(name).trim();
const CHARTS = [
  {
    id: "chart-queue",
    series: [{ label: "", read: (s) => s.queuedPackets, words: (v) => plural(v, "packet") }],
    axis: compact,
    least: 4,
  },
  {
    id: "chart-rates",
    series: [
      { label: "stored", read: (s) => s.storedPerSecond, words: rate },
      { label: "acknowledged", read: (s) => s.drainedPerSecond, words: rate },
    ],
    axis: compact,
    least: 4,
  },
  {
    id: "chart-sendq",
    series: [{ label: "", read: (s) => s.sendQueueBytes, words: bytes }],
    axis: bytes,
    least: 1024,
    binary: true,
  },
  {
    id: "chart-rtt",
    series: [{ label: "", read: (s) => s.rttMs, words: milliseconds }],
    axis: (v) => v === 0 ? "0" : `${Number(v.toPrecision(3))} ms`,
    least: 0.4,
  },
];

function compact(value) {
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
}

const samples = [];
const plots = [];

/** Where packets did not get through: a band behind the curves. */
function shadeOutages(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = color("--shade");
  for (let from = 0; from < samples.length; from++) {
    if (samples[from].tone !== "bad") continue;
    let to = from;
    while (to + 1 < samples.length && samples[to + 1].tone === "bad") to++;
    const left = Math.max(bbox.left, plot.valToPos(samples[from].atMs / 1000, "x", true));
    const end = samples[Math.min(to + 1, samples.length - 1)];
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(end.atMs / 1000, "x", true));
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    from = to;
  }
  ctx.restore();
}

function makeChart(chart) {
  const figure = $(chart.id);
  const box = figure.querySelector(".plot");
  const axis = {
    stroke: () => color("--muted"),
    grid: { stroke: () => color("--grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const binarySteps = Array.from({ length: 45 }, (_, power) => 2 ** power);
  const plot = new uPlot(
    {
      width: box.clientWidth,
      height: box.clientHeight,
      padding: [6, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "s" } },
      scales: {
        x: { time: true, range: () => range() },
        y: { range: (_, _min, max) => [0, Math.max(chart.least, (max ?? 0) * 1.08)] },
      },
      axes: [
        {
          ...axis,
          size: 26,
          space: 64,
          values: (_, ticks) => ticks.map((s) => time(s * 1000).replace(/:00$/, "")),
        },
        {
          ...axis,
          size: 58,
          space: 34,
          values: (_, ticks) => ticks.map(chart.axis),
          ...(chart.binary ? { incrs: binarySteps } : {}),
        },
      ],
      series: [
        {},
        ...chart.series.map((_, index) => ({
          stroke: () => color(`--series-${index + 1}`),
          fill: () => index === 0 ? `${color("--series-1")}1f` : undefined,
          width: 1.6,
          points: { show: false },
        })),
      ],
      hooks: { drawClear: [shadeOutages], setCursor: [() => showValues(entry)] },
    },
    columnsOf(chart),
    box,
  );
  const entry = { chart, plot, values: figure.querySelector(".values") };
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: box.clientHeight }))
    .observe(box);
  return entry;
}

function range() {
  const start = (samples[0]?.atMs ?? Date.now()) / 1000;
  const end = (samples.at(-1)?.atMs ?? Date.now()) / 1000;
  return [Math.max(start, end - SPAN_S), Math.max(end, start + FIRST_SPAN_S)];
}

function columnsOf(chart) {
  return [
    samples.map(({ atMs }) => atMs / 1000),
    ...chart.series.map(({ read }) => samples.map(read)),
  ];
}

/** The values under the cursor, or else the latest. */
function showValues({ chart, plot, values }) {
  const index = plot.cursor.idx;
  const sample = index === null || index === undefined ? samples.at(-1) : samples[index];
  const parts = sample === undefined ? [] : chart.series.map(({ label, read, words }, at) => {
    const part = document.createElement("span");
    if (label !== "") {
      const key = document.createElement("i");
      key.className = `series-${at + 1}`;
      part.append(key, `${label} `);
    }
    const value = read(sample);
    part.append(value === null ? "no connection" : words(value));
    return part;
  });
  if (index !== null && index !== undefined && sample !== undefined) {
    parts.unshift(document.createTextNode(time(sample.atMs)));
  }
  values.replaceChildren(...parts);
}

function drawCharts() {
  if (plots.length === 0) plots.push(...CHARTS.map(makeChart));
  for (const entry of plots) {
    entry.plot.setData(columnsOf(entry.chart));
    showValues(entry);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { plot } of plots) plot.redraw(false);
});

// The report

/** Which of several routes this page is of; undefined: there is but one. */
let route;

function showReport(report) {
  const { condition, health, stats, verdict } = report;
  const { queue, path } = stats;
  const name = route ?? report.remote.replace(/^t(cp|ls):\/\//, "");
  document.title = `${condition.headline} · ${name} · sendq`;
  document.querySelector("link[rel=icon]").href = icon(condition.tone);
  $("condition").dataset.tone = condition.tone;
  show("headline", condition.headline);
  const outage = report.outage === null ? "" : ` Outage ${report.outage.words}.`;
  show("detail", condition.detail + outage);
  show("remote", report.remote);
  show("state", report.state);
  show("verdict", verdict?.kind ?? "–");
  show("health", healthWords(health));
  show(
    "route",
    path === undefined
      ? "no connection"
      : `${path.localAddress} → ${path.remoteAddress}${tlsWords(path.tls, report.atMs)}`,
  );
  show("queued", count(queue.packets));
  const dead = queue.deadPackets > 0 ? ` · ${plural(queue.deadPackets, "dead letter")}` : "";
  show("queued-sub", `${bytes(queue.bytes)}${dead}`);
  const oldest = report.oldestPacket;
  show("age", oldest === null ? "–" : duration(oldest.ageMs));
  show("age-sub", oldest === null ? "queue is empty" : `id ${oldest.id}`);
  $("age").title = oldest === null ? "" : `stored ${dateFormat.format(oldest.storedAtMs)}`;
  show("flight", count(stats.inFlightPackets));
  const held = { reader: "to be read", answer: "to be answered" }[stats.confirmedBy] ?? "held";
  show("flight-sub", `${bytes(stats.inFlightBytes)}, ${count(stats.heldPackets)} ${held}`);
  show("drained", count(stats.drainedPackets));
  show("drained-sub", `${bytes(stats.ackedBytes)}`);
  show("again", count(stats.redeliveredPackets));
  show("again-sub", queue.droppedPackets > 0 ? `${count(queue.droppedPackets)} dropped` : "");
  show("connects", count(stats.connections));
  show("connects-sub", plural(stats.failedAttempts, "failed attempt"));
  show(
    "queue-path",
    `${report.queuePath}, watched since ${dateFormat.format(report.watchedSinceMs)}`,
  );
  showCluster(stats.cluster);
  showPayload(oldest);
}

/** Of a queue in a database: who sends, and what its standbys have. */
function showCluster(cluster) {
  const lease = cluster?.lease ?? null;
  $("cluster-lease").hidden = lease === null;
  $("cluster-standbys").hidden = cluster === undefined;
  if (lease !== null) {
    const over = lease.validForMs > 0 ? "" : ", run out";
    show(
      "lease",
      `${lease.holder}, epoch ${count(lease.epoch)}, beat ${duration(lease.beatAgeMs)} ago${over}`,
    );
  }
  if (cluster === undefined) return;
  const { state, waitsFor, standbys } = cluster.replication;
  const lag = ({ lagBytes, lagMs }) =>
    `${bytes(lagBytes)}${lagMs === null ? "" : ` and ${milliseconds(lagMs)}`} behind`;
  const each = standbys.map((one) => `${one.name} (${one.sync}, ${one.state}) ${lag(one)}`);
  const waits = waitsFor === "" ? "" : `, waits for ${waitsFor}`;
  show("standbys", [`${state}${waits}`, ...each].join("; "));
}

function tlsWords(tls, nowMs) {
  if (tls === undefined) return "";
  const left = (atMs) =>
    atMs < nowMs ? "has expired" : `expires in ${Math.floor((atMs - nowMs) / 86_400_000)} days`;
  const ours = tls.clientCertificateExpiresAtMs;
  return `, ${tls.version} ${tls.cipherSuite}, certificate ` +
    left(tls.serverCertificateExpiresAtMs) + (ours === undefined ? "" : `, ours ${left(ours)}`);
}

function healthWords({ ok, undeliverableMs, undeliverableLimitMs }) {
  const limit = duration(undeliverableLimitMs);
  if (undeliverableMs < 1000) return ok ? "ok" : "not ok";
  return `${ok ? "ok" : "not ok"}: nothing acknowledged for ${duration(undeliverableMs)}` +
    (ok ? `, limit ${limit}` : `, more than ${limit}`);
}

function showPayload(oldest) {
  $("payload").hidden = oldest?.head === undefined;
  if (oldest?.head === undefined) return;
  const head = Uint8Array.from(atob(oldest.head), (character) => character.charCodeAt(0));
  const part = head.length < oldest.bytes ? `, the first ${bytes(head.length)} of them` : "";
  show("payload-words", `id ${oldest.id}, ${bytes(oldest.bytes)}${part}`);
  const lines = [];
  for (let at = 0; at < head.length; at += 16) {
    const row = [...head.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const text = row.map((byte) => byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex}  ${text.join("")}`);
  }
  show("payload-dump", lines.join("\n"));
}

function icon(tone) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">` +
    `<circle cx="8" cy="8" r="6.5" fill="${color(`--${tone}`)}"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

// Events

function showEvent(event) {
  const list = $("events");
  const id = `event-${event.number}`;
  const item = document.createElement("li");
  item.id = id;
  item.className = classOf(event);
  const when = document.createElement("time");
  when.dateTime = new Date(event.atMs).toISOString();
  when.title = dateFormat.format(event.atMs);
  when.textContent = time(event.atMs);
  const words = document.createElement("span");
  words.className = "words";
  words.textContent = event.words;
  const times = document.createElement("span");
  times.className = "times";
  if (event.times > 1) times.textContent = `${event.times} times, last ${time(event.lastAtMs)}`;
  item.append(when, words, times);
  const old = $(id);
  if (old !== null) old.replaceWith(item);
  else list.prepend(item);
  while (list.children.length > MAX_EVENTS) list.lastElementChild.remove();
}

function classOf({ failure, state, verdict }) {
  if (failure) return "failure";
  if (verdict === "slow" || verdict === "peer-stalled") return "warning";
  if (verdict === "local-fault" && state === "connected") return "failure";
  return state === "connected" && verdict === "healthy" ? "connected" : "";
}

// The stream

let heardAtMs = performance.now();
const parse = (message) => {
  heardAtMs = performance.now();
  showFeed(true);
  return JSON.parse(message.data);
};

function showFeed(live) {
  if ($("feed").dataset.live === String(live)) return;
  $("feed").dataset.live = String(live);
  document.body.classList.toggle("stale", !live);
  show("feed", live ? "live" : `no word from sendq since ${time(Date.now())}`);
}

function listen() {
  const stream = new EventSource("events");
  stream.addEventListener("hello", (message) => {
    const { report, events, samples: past, route: name } = parse(message);
    route = name;
    $("all").hidden = route === undefined;
    $("all").href = "../../";
    show("route-name", route ?? "");
    samples.splice(0, samples.length, ...past);
    $("events").replaceChildren();
    for (const event of events) showEvent(event);
    showReport(report);
    drawCharts();
  });
  stream.addEventListener("sample", (message) => {
    const { report } = parse(message);
    samples.push(report.sample);
    if (samples.length > MAX_SAMPLES) samples.shift();
    showReport(report);
    drawCharts();
  });
  stream.addEventListener("event", (message) => {
    const { event, report } = parse(message);
    showEvent(event);
    showReport(report);
  });
  stream.addEventListener("error", () => {
    showFeed(false);
    // Whoever answers but has no stream, as a route without a sender, is not asked again by it.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, ASK_AGAIN_MS);
  });
}
listen();
setInterval(() => {
  if (performance.now() - heardAtMs > STALE_AFTER_MS) showFeed(false);
}, 1000);
