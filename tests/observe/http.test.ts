import assert from "node:assert/strict";
import parsePrometheus from "parse-prometheus-text-format";
import { FIGURES } from "../../src/observe/figures.ts";
import { serveStatus } from "../../src/observe/http.ts";
import type { StatusReport } from "../../src/observe/http.ts";
import { prometheusName } from "../../src/observe/prometheus.ts";
import { bytes } from "../support/bytes.ts";
import { FaultDriver } from "../queue/helpers.ts";
import { until } from "../support/until.ts";
import { answerOf, eventsOf, getAs, StatusBench } from "./helpers.ts";

const TOKEN = "0123456789abcdef-token";

/** A metric as the parser gives it. */
interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly metrics: readonly { value: string; labels?: Record<string, string> }[];
}

Deno.test("the status page and everything it needs come from here", async () => {
  await using bench = await StatusBench.open();
  const page = await bench.get("/");
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-type") ?? "", /^text\/html/);
  const parts = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, part = ""]) => part);
  assert.ok(parts.length >= 6);
  for (const part of parts.filter((part) => part !== "data:,")) {
    assert.match(part, /^[a-z.]+$/, "a path of our own");
    assert.equal((await bench.get(part)).status, 200, part);
  }
});

Deno.test("every answer has the headers that keep strangers out", async () => {
  await using bench = await StatusBench.open();
  for (const path of ["/", "/status", "/metrics", "/healthz", "/page.js", "/nowhere"]) {
    const { headers } = await bench.get(path);
    const policy = headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'none'/);
    assert.ok(!/unsafe|https?:|\*/.test(policy), policy);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("x-frame-options"), "DENY");
    assert.equal(headers.get("cross-origin-resource-policy"), "same-origin");
    assert.equal(headers.get("access-control-allow-origin"), null);
    assert.equal(headers.get("cache-control"), "no-store");
  }
});

Deno.test("only what is served is answered", async () => {
  await using bench = await StatusBench.open();
  assert.equal((await bench.get("/page/page.html")).status, 404);
  const post = await answerOf(fetch(new URL("/status", bench.status.url), { method: "POST" }));
  assert.equal(post.status, 405);
  const head = await answerOf(fetch(bench.status.url, { method: "HEAD" }));
  assert.deepEqual([head.status, head.text], [200, ""]);
  const events = await answerOf(
    fetch(new URL("/events", bench.status.url), { method: "HEAD" }),
  );
  assert.deepEqual([events.status, events.text], [200, ""]);
});

Deno.test("a name that was pointed at us is refused", async () => {
  await using bench = await StatusBench.open();
  const { port } = bench.status.addr;
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, "127.0.0.1:8080", "[::1]:9465"]) {
    assert.equal(await getAs(bench.status.url, host), 200, host);
  }
  const strangers = [
    "evil.example",
    `evil.example:${port}`,
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost@evil.example",
    "",
  ];
  for (const host of strangers) {
    const status = await getAs(bench.status.url, host);
    assert.ok(status === 403 || status === 400, `${host}: ${status}`);
  }
});

Deno.test("without a token only loopback addresses are listened on", async () => {
  for (const hostname of ["0.0.0.0", "::", "192.0.2.1", "status.example", "127.0.0.1.example"]) {
    await assert.rejects(StatusBench.open({ hostname }), {
      name: "RangeError",
      message: /not a loopback address.*Set a token/,
    });
  }
  await assert.rejects(StatusBench.open({ hostname: "0.0.0.0", token: "short" }), {
    name: "RangeError",
    message: /16 or more/,
  });
  for (const hostname of ["127.0.0.1", "localhost", "::1"]) {
    await using bench = await StatusBench.open({ hostname });
    assert.equal((await bench.get("/healthz")).status, 200);
  }
});

Deno.test("options out of range are refused", async () => {
  await assert.rejects(StatusBench.open({ port: 70_000 }), /port must be an integer/);
  await assert.rejects(
    StatusBench.open({ undeliverableLimitMs: Number.NaN }),
    /undeliverableLimitMs must be 0 or more/,
  );
});

Deno.test("a port in use is an error and leaves nothing behind", async () => {
  await using bench = await StatusBench.open();
  const { port } = bench.status.addr;
  assert.throws(() => serveStatus(bench.sender, { port }), Deno.errors.AddrInUse);
});

Deno.test("with a token everything but the form's style needs it", async () => {
  await using bench = await StatusBench.open({ token: TOKEN });
  const form = await bench.get("/");
  assert.equal(form.status, 401);
  assert.match(form.text, /<form method="post" action="login">/);
  for (const path of ["/status", "/metrics", "/healthz", "/events", "/page.js", "/nowhere"]) {
    const { status, headers } = await bench.get(path);
    assert.equal(status, 401, path);
    assert.equal(headers.get("www-authenticate"), "Bearer");
    const wrong = await bench.get(path, { authorization: `Bearer ${TOKEN}x` });
    assert.equal(wrong.status, 401, path);
  }
  assert.equal((await bench.get("/page.css")).status, 200);
  for (const path of ["/", "/status", "/metrics", "/healthz", "/page.js"]) {
    const { status } = await bench.get(path, { authorization: `Bearer ${TOKEN}` });
    assert.equal(status, 200, path);
  }
});

Deno.test("the form takes the token and sets a cookie that does not hold it", async () => {
  await using bench = await StatusBench.open({ token: TOKEN });
  const logIn = (token: string) =>
    answerOf(fetch(new URL("/login", bench.status.url), {
      method: "POST",
      body: new URLSearchParams({ token }),
      redirect: "manual",
    }));
  const wrong = await logIn("something else, long enough");
  assert.equal(wrong.status, 401);
  assert.equal(wrong.headers.get("set-cookie"), null);
  assert.equal((await logIn("x".repeat(100_000))).status, 401);
  const right = await logIn(TOKEN);
  assert.equal(right.status, 303);
  assert.equal(right.headers.get("location"), "./");
  const cookie = right.headers.get("set-cookie") ?? "";
  assert.match(cookie, /HttpOnly; SameSite=Strict/);
  assert.ok(!cookie.includes(TOKEN));
  const pair = cookie.split(";")[0] ?? "";
  assert.equal((await bench.get("/status", { cookie: `other=1; ${pair}` })).status, 200);
  assert.equal((await bench.get("/status", { cookie: `${pair}0` })).status, 401);
  await using other = await StatusBench.open({ token: `${TOKEN}2` });
  const stolen = pair.replace(/^\w+/, `sendq_${other.status.addr.port}`);
  assert.equal((await other.get("/status", { cookie: stolen })).status, 401);
});

Deno.test("health turns bad after the limit and good again with delivery", async () => {
  await using bench = await StatusBench.open({ undeliverableLimitMs: 60_000 });
  const { clock, sender, server } = bench;
  await bench.stopServer();
  clock.advance(500_000);
  assert.equal((await bench.get("/healthz")).status, 200, "nothing to deliver is healthy");

  await sender.enqueue(bytes("one\n"));
  await until("an attempt has failed", () => sender.stats().failedAttempts > 0);
  assert.equal((await bench.get("/healthz")).status, 200);
  clock.advance(60_000);
  assert.equal((await bench.get("/healthz")).status, 200, "at the limit");
  clock.advance(1);
  const bad = await bench.get("/healthz");
  assert.equal(bad.status, 503);
  assert.match(bad.text, /No byte acknowledged for 60\.0 s \(limit 60\.0 s\), packets queued: 1\./);
  assert.match(bad.text, /Not delivering\..*connection refused/is);

  const texts = server.start().readAll();
  await sender.drained();
  const good = await bench.get("/healthz");
  assert.equal(good.status, 200, good.text);
  assert.equal(texts[0], "one\n");

  await sender.close();
  const closed = await bench.get("/healthz");
  assert.equal(closed.status, 503);
  assert.match(closed.text, /Closed\. The sender has ended/);
});

Deno.test("a refused session is unhealthy at once, in the server's words, and no more once it is opened", async () => {
  const session = { open: [{ send: "login\n", expect: "ok" }], refusedBackoffFirstMs: 100 };
  await using bench = await StatusBench.open({}, { session, holdMs: 0 });
  const { sender, server } = bench;
  await sender.enqueue(bytes("one\n"));
  const refused = await server.accept();
  await refused.readUntil("\n");
  assert.equal((await bench.get("/healthz")).status, 200);
  await refused.write("no seat left\n");
  await until("it is refused", () => sender.verdict.kind === "session-refused");
  const bad = await bench.get("/healthz");
  assert.equal(bad.status, 503);
  assert.match(bad.text, /Not delivering\..*the server said "no seat left\\n"/is);
  const { text } = await bench.get("/metrics");
  assert.match(text, /^sendq_verdict\{.*"session-refused".*\} 1$/m);
  const opened = await server.accept();
  await opened.readUntil("\n");
  await opened.write("ok");
  await opened.readUntil("one\n");
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  assert.equal((await bench.get("/healthz")).status, 200);
});

Deno.test("a server that acknowledges something now and then is delivered to", async () => {
  await using bench = await StatusBench.open({ undeliverableLimitMs: 10_000 });
  bench.server.readAll();
  await bench.sender.enqueue(bytes("one\n"));
  await bench.sender.drained();
  for (let round = 0; round < 5; round++) {
    bench.clock.advance(9000);
    await bench.sender.enqueue(bytes("more\n"));
    await bench.sender.drained();
    assert.equal((await bench.get("/healthz")).status, 200);
  }
});

Deno.test("/metrics is what a parser of Prometheus' format takes", async () => {
  await using bench = await StatusBench.open();
  bench.server.readAll();
  const ids = await bench.sender.enqueueMany([bytes("one\n"), bytes("three\n")]);
  await bench.sender.drained();
  const { headers, text } = await bench.get("/metrics");
  assert.match(headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const families: readonly Family[] = parsePrometheus(text);

  // Those of TLS and of a queue in a database have no value without them.
  const figures = FIGURES.filter(({ name }) => !/^sendq\.(tls|lease|replication)\./.test(name));
  assert.deepEqual(families.map(({ name }) => name), figures.map(prometheusName));
  for (const figure of figures) {
    const family = families.find(({ name }) => name === prometheusName(figure));
    assert.equal(family?.type, figure.kind === "counter" ? "COUNTER" : "GAUGE", figure.name);
    assert.equal(family?.help, figure.description);
    assert.ok((family?.metrics.length ?? 0) > 0, figure.name);
    for (const { value, labels } of family?.metrics ?? []) {
      assert.ok(Number.isFinite(Number(value)) && Number(value) >= 0, `${figure.name}: ${value}`);
      assert.equal(labels?.["remote"], bench.server.remote);
    }
  }
  const valueOf = (name: string, labels: Record<string, string> = {}) => {
    const metric = families.find((family) => family.name === name)?.metrics.find((metric) =>
      Object.entries(labels).every(([key, value]) => metric.labels?.[key] === value)
    );
    return Number(metric?.value);
  };
  assert.equal(valueOf("sendq_queue_stored_packets_total"), ids.lastId);
  assert.equal(valueOf("sendq_delivery_drained_packets_total"), 2);
  assert.equal(valueOf("sendq_delivery_io_bytes_total", { network_io_direction: "transmit" }), 10);
  assert.equal(valueOf("sendq_connection_established_total"), 1);
  assert.ok(valueOf("sendq_path_rtt_seconds") > 0);
  assert.ok(valueOf("sendq_path_rtt_seconds") < 10);
  assert.ok(valueOf("sendq_queue_file_size_bytes") >= 4096);
  const hot = (name: string) =>
    families.find((family) => family.name === name)?.metrics.filter(({ value }) => value === "1")
      .map(({ labels }) => labels?.[`${name}_name`]);
  assert.deepEqual(hot("sendq_state"), ["connected"]);
  assert.deepEqual(hot("sendq_verdict"), ["healthy"]);
});

Deno.test("figures of the path have no value without a connection", async () => {
  await using bench = await StatusBench.open();
  const families: readonly Family[] = parsePrometheus((await bench.get("/metrics")).text);
  const names = families.map(({ name }) => name);
  assert.ok(!names.includes("sendq_path_rtt_seconds"));
  assert.ok(names.includes("sendq_path_send_queue_size_bytes"));
});

Deno.test("without a connection nothing is called healthy, and an outage has its figure", async () => {
  await using bench = await StatusBench.open();
  await bench.stopServer();
  await bench.sender.enqueue(bytes("one\n"));
  await until("an attempt has failed", () => bench.sender.stats().failedAttempts > 0);
  const { text } = await bench.get("/metrics");
  assert.doesNotMatch(text, /healthy/);
  assert.match(text, /^sendq_condition\{.*sendq_condition_name="bad".*\} 1$/m);
  assert.match(text, /^sendq_condition\{.*sendq_condition_name="good".*\} 0$/m);
  const { verdict }: StatusReport = JSON.parse((await bench.get("/status")).text);
  assert.equal(verdict, null);
});

Deno.test("/status tells how things stand", async () => {
  await using bench = await StatusBench.open();
  const { clock, sender, server } = bench;
  await bench.stopServer();
  await sender.enqueue(bytes("secret\n"));
  await until("an attempt has failed", () => sender.stats().failedAttempts > 0);
  clock.advance(1000);
  const { text } = await bench.get("/status");
  const report: StatusReport = JSON.parse(text);
  assert.equal(report.remote, server.remote);
  assert.equal(report.queuePath, sender.queue.path);
  assert.equal(report.condition.tone, "bad");
  assert.equal(report.condition.headline, "Not delivering");
  assert.match(report.condition.detail, /connection refused/i);
  assert.equal(report.stats.queue.packets, 1);
  assert.equal(report.oldestPacket?.id, 1);
  assert.match(report.lastFailure?.words ?? "", /cannot connect to/);
  assert.equal(report.health.ok, true);
  assert.ok(!("head" in (report.oldestPacket ?? {})), "payloads are shown only when asked for");
  assert.ok(!text.includes(btoa("secret\n")) && !text.includes("secret"));
});

Deno.test("the oldest packet is shown when asked for", async () => {
  await using bench = await StatusBench.open({ showPayloads: true });
  await bench.stopServer();
  await bench.sender.enqueueMany([bytes("visible\n"), bytes("second\n")]);
  const { text } = await bench.get("/status");
  const { oldestPacket }: StatusReport = JSON.parse(text);
  assert.equal(oldestPacket?.id, 1);
  assert.equal(oldestPacket?.bytes, 8);
  assert.equal(atob(oldestPacket?.head ?? ""), "visible\n");
  assert.ok(!text.includes(btoa("second\n")));
});

Deno.test("/events tells everything at once, then each change and each second", async () => {
  await using bench = await StatusBench.open();
  const { clock, sender, server } = bench;
  const response = await fetch(new URL("/events", bench.status.url));
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = eventsOf(response);
  const next = async () => {
    const { value } = await events.next();
    assert.ok(value !== undefined, "the stream has ended");
    return value;
  };
  const hello = await next();
  assert.equal(hello.name, "hello");
  assert.equal(hello.data.report.state, "idle");
  assert.equal(hello.data.samples.length, 1);

  clock.advance(1000);
  const sample = await next();
  assert.equal(sample.name, "sample");
  assert.equal(sample.data.report.sample.queuedPackets, 0);

  server.readAll();
  await sender.enqueue(bytes("one\n"));
  let event = await next();
  for (; event.data.event?.state !== "connected"; event = await next()) {
    assert.equal(event.name, "event");
  }
  assert.match(event.data.event.words, /^connected to 127\.0\.0\.1:/);
  await sender.drained();
  clock.advance(1000);
  const moving = await next();
  assert.equal(moving.data.report.sample.drainedPerSecond > 0, true);
  assert.equal(moving.data.report.condition.headline, "Delivering");

  await bench.status.close();
  assert.equal((await events.next()).done, true, "closing ends the stream");
});

Deno.test("attempts that repeat themselves are one event with a count", async () => {
  await using bench = await StatusBench.open({}, { backoffCapMs: 5, backoffFirstMs: 1 });
  const { sender } = bench;
  await bench.stopServer();
  await sender.enqueue(bytes("one\n"));
  await until("many attempts", () => sender.stats().failedAttempts > 120);
  const response = await fetch(new URL("/events", bench.status.url));
  const { value } = await eventsOf(response).next();
  const events: { words: string; times: number }[] = value?.data.events ?? [];
  const refused = events.filter(({ words }) => /refused/.test(words));
  assert.equal(refused.length, 1, JSON.stringify(events));
  assert.ok((refused[0]?.times ?? 0) > 100);
});

Deno.test("a queue that cannot be read is told, and so is its end", async () => {
  const driver = new FaultDriver();
  await using bench = await StatusBench.open({}, { queueOptions: { driver } });
  const { sender } = bench;
  driver.failNext("PRAGMA data_version", 10, Infinity);
  await until("the failure is noticed", () => sender.queueFailure !== undefined);
  const sick = await fetch(new URL("/healthz", bench.status.url));
  assert.equal(sick.status, 503);
  assert.match(await sick.text(), /^Cannot read its queue\. Queue .*outbox\.db/);
  driver.heal();
  await until("it can be read again", () => sender.queueFailure === undefined);
  const well = await fetch(new URL("/healthz", bench.status.url));
  assert.equal(well.status, 200);
  await well.body?.cancel();
});

Deno.test("a queue that was taken away is told as long as what it held is delivered", async () => {
  await using bench = await StatusBench.open();
  const { sender } = bench;
  await bench.stopServer();
  await sender.enqueue(bytes("nowhere else\n"));
  for (const end of ["", "-wal", "-shm"]) Deno.removeSync(sender.queue.path + end);
  await until("that is noticed", () => sender.queueFailure !== undefined);
  const sick = await bench.get("/healthz");
  assert.equal(sick.status, 503);
  assert.match(
    sick.text,
    /Its queue was taken away\. Queue .*outbox\.db: its file was removed or moved away while /,
  );
  assert.notEqual(sender.state, "closed");
  await assert.rejects(sender.close({ deliverTimeoutMs: 0 }), { reason: "misplaced" });
});

Deno.test("no more than fifty events and three hundred samples are kept", async () => {
  await using bench = await StatusBench.open({}, { holdMs: 0 });
  bench.clock.advance(400_000);
  bench.server.serve((connection) => connection.readUntil("x").then(() => connection.close()));
  for (let round = 0; round < 30; round++) {
    const before = bench.sender.stats().connections;
    await bench.sender.enqueue(bytes("x"));
    await until(
      "another connection, and its end",
      () => bench.sender.stats().connections > before && bench.sender.state === "idle",
    );
  }
  const response = await fetch(new URL("/events", bench.status.url));
  const { value } = await eventsOf(response).next();
  assert.equal(value?.data.events.length, 50);
  assert.ok(value?.data.events.at(0).number > 1);
  assert.equal(value?.data.samples.length, 300);
});

Deno.test("streams are bounded, and one that is left makes room", async () => {
  await using bench = await StatusBench.open();
  const open = () => {
    const controller = new AbortController();
    const { signal } = controller;
    return { controller, answer: fetch(new URL("/events", bench.status.url), { signal }) };
  };
  const streams = await Promise.all(Array.from({ length: 32 }, async () => {
    const { controller, answer } = open();
    const events = eventsOf(await answer);
    await events.next();
    return { controller, events };
  }));
  assert.equal((await bench.get("/events")).status, 503);
  const [first] = streams;
  first?.controller.abort();
  await assert.rejects(async () => await first?.events.next());
  await until("room for one more", async () => {
    const { controller, answer } = open();
    const { status, body } = await answer;
    if (status === 200) return true;
    await body?.cancel();
    controller.abort();
    return false;
  });
});

Deno.test("streams of all routes together leave room for whoever asks for something else", async () => {
  await using bench = await StatusBench.open();
  const names = ["a", "b", "c"];
  await using status = serveStatus(
    Object.fromEntries(names.map((name) => [name, bench.sender])),
    { port: 0 },
  );
  const ended = new AbortController();
  const answers = await Promise.all(
    Array.from(
      { length: 60 },
      (_, i) => fetch(new URL(`/r/${names[i % 3]}/events`, status.url), { signal: ended.signal }),
    ),
  );
  assert.equal(answers.filter(({ status }) => status === 200).length, 32);
  assert.equal((await answerOf(fetch(new URL("/healthz", status.url)))).status, 200);
  ended.abort();
  await Promise.all(answers.map(({ body }) => body?.cancel().catch(() => {})));
});

Deno.test("close and dispose may come in any number", async () => {
  const bench = await StatusBench.open();
  await bench.status.close();
  await bench.status[Symbol.asyncDispose]();
  await bench[Symbol.asyncDispose]();
});
