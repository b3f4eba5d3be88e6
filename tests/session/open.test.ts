/**
 * Sessions against scripted servers on real sockets: what an operator sees, and what the
 * server does.
 */
import assert from "node:assert/strict";
import { SessionRefusedError } from "../../src/base/errors.ts";
import type { Sender } from "../../src/sender/sender.ts";
import type { SessionStream } from "../../src/session/stream.ts";
import { lines, packet, packets } from "../support/packets.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

const failed = (sender: Sender) => seen(sender, ({ state }) => state === "backing-off");
const LOGIN = { send: "AUTH secret\r\n", expect: "+OK\r\n" } as const;

Deno.test("each connection logs in first, and packets follow the answer", async () => {
  await using bench = new SenderBench({ holdMs: 0, backoffFirstMs: 1, session: { open: [LOGIN] } });
  const sender = await bench.open();
  await sender.enqueueMany(packets(3));
  for (let round = 0; round < 2; round++) {
    const connection = await bench.server.accept();
    assert.equal(await connection.readUntil("\r\n"), "AUTH secret\r\n");
    assert.equal(sender.stats().inFlightPackets, 0);
    // In parts, and with more behind it.
    await connection.write("+O");
    await connection.write("K\r\nhello");
    assert.equal(await connection.readUntil("packet 3\n"), lines(3));
    if (round === 1) break;
    await until("all is confirmed", () => sender.stats().queue.packets === 0);
    connection.close();
    await sender.enqueueMany(packets(3));
  }
  const reader = sender.received.getReader();
  let text = "";
  while (text.length < 10) text += new TextDecoder().decode((await reader.read()).value);
  assert.equal(text, "hellohello");
  reader.releaseLock();
});

Deno.test("an answer with a framing is a whole message, and what follows it is not the session's", async () => {
  const open = [{ send: "HI\n", expect: "OK", framing: "length16" }] as const;
  await using bench = new SenderBench({ backoffFirstMs: 1, session: { open } });
  const sender = await bench.open();
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  await connection.readUntil("\n");
  // The pattern fits long before the message has ended.
  await connection.write("\x00\x08OK");
  await connection.write(" later\x00\x02hi");
  assert.equal(await connection.readUntil("packet 1\n"), lines(1));
  const reader = sender.received.getReader();
  let text = "";
  while (text.length < 4) text += new TextDecoder().decode((await reader.read()).value);
  assert.equal(text, "\x00\x02hi");
  reader.releaseLock();
});

for (
  const [name, answer] of [
    ["says something else", "\x00\x02no"],
    ["is too long to be one", "\x70\x00OK"],
  ] as const
) {
  Deno.test(`an answer with a framing that ${name} is a refusal`, async () => {
    const open = [{ send: "HI\n", expect: "OK", framing: "length16" }] as const;
    await using bench = new SenderBench({ session: { open, refusedBackoffFirstMs: 60_000 } });
    const sender = await bench.open();
    const refused = failed(sender);
    await sender.enqueue(packet(1));
    const connection = await bench.server.accept();
    await connection.readUntil("\n");
    await connection.write(answer);
    const { verdict } = await refused;
    assert.equal(verdict.kind, "session-refused");
    assert.match(
      "words" in verdict ? verdict.words : "",
      /the server said "(?:\\x00\\x02no|p\\x00OK)"/,
    );
  });
}

Deno.test("a refusal is a verdict in the server's words, with a slow pause of its own", async () => {
  await using bench = new SenderBench({ backoffFirstMs: 1, backoffCapMs: 1 });
  const sender = await bench.open({ session: { open: [LOGIN], refusedBackoffFirstMs: 60_000 } });
  const refused = failed(sender);
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  await connection.readUntil("\r\n");
  // The rest of the line belongs to the words.
  await connection.write("-");
  await connection.write("ERR WRONGPASS \x1b[1m\r\n");
  const { verdict, words, level } = await refused;
  const said = String.raw`"-ERR WRONGPASS \x1b[1m\r\n"`;
  assert.deepEqual(verdict, {
    kind: "session-refused",
    words: String.raw`the session: the server said ${said}; expected was "+OK\r\n"`,
  });
  assert.equal(level, "warn");
  assert.match(words, /^cannot connect to tcp:.*WRONGPASS/);
  assert.ok(!words.includes("secret"));
  assert.equal(sender.state, "backing-off");
  assert.deepEqual(
    { tone: sender.condition.tone, headline: sender.condition.headline },
    { tone: "bad", headline: "Not delivering" },
  );
  assert.match(sender.condition.detail, /WRONGPASS/);
});

for (
  const [name, answer, expected, words] of [
    ["closes without a word", undefined, "+OK", /closed the connection without a word; expected/],
    ["closes in its answer", "+O", "+OK", /closed the connection after "\+O"; expected was "\+OK"/],
    ["says what is refused", "busy, go away\n", /ready/, /said "busy, go away\\n"/],
  ] as const
) {
  Deno.test(`refused: the server ${name}`, async () => {
    await using bench = new SenderBench();
    const sender = await bench.open({
      session: { open: [{ expect: expected, refuse: /busy[^\n]*\n/ }], refusedBackoffFirstMs: 1e5 },
    });
    const refused = failed(sender);
    await sender.enqueue(packet(1));
    const connection = await bench.server.accept();
    if (answer !== undefined) await connection.write(answer);
    if (!answer?.endsWith("\n")) connection.close();
    const { verdict } = await refused;
    assert.equal(verdict.kind, "session-refused");
    assert.match("words" in verdict ? verdict.words : "", words);
  });
}

Deno.test("a server that half answers is told after the step's time, with what it said", async () => {
  await using bench = new SenderBench();
  const open = [{ expect: "220" }, { send: "HELO\r\n", expect: /^250 .*\r\n/, timeoutMs: 200 }];
  const sender = await bench.open({ session: { open, refusedBackoffFirstMs: 1e5 } });
  const refused = failed(sender);
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  await connection.write("220");
  await connection.readUntil("\r\n");
  await connection.write("250 mail");
  const { verdict } = await refused;
  assert.match(
    "words" in verdict ? verdict.words : "",
    /^step 2 of the session: the server said "250 mail", and nothing more within 0.2 s; expected/,
  );
});

Deno.test("a server that says nothing, or dies, is a failed attempt and no refusal", async () => {
  await using bench = new SenderBench({ backoffFirstMs: 1, backoffCapMs: 1 });
  const sender = await bench.open({ session: { open: [LOGIN], timeoutMs: 200 } });
  const silent = failed(sender);
  await sender.enqueue(packet(1));
  const first = await bench.server.accept();
  const { verdict, error } = await silent;
  assert.equal(verdict.kind, "healthy");
  assert.match(error?.message ?? "", /^the session: no answer, expected was .* within 0.2 s/);
  const dead = seen(sender, ({ error }) => /was reset|ECONNRESET/.test(error?.message ?? ""));
  const second = await bench.server.accept();
  // Closed with a part of the login unread: a reset.
  assert.equal(await second.read(1), "A");
  second.close();
  assert.equal((await dead).verdict.kind, "healthy");
  first.close();
});

Deno.test("a refused session costs no packet, however small maxAttempts", async () => {
  await using bench = new SenderBench();
  const session = { open: [LOGIN], refusedBackoffFirstMs: 100, refusedBackoffCapMs: 100 };
  const sender = await bench.open({ maxAttempts: 2, holdMs: 0, session });
  await sender.enqueue(packet(1));
  for (let round = 0; round < 4; round++) {
    const connection = await bench.server.accept();
    await connection.readUntil("\r\n");
    await connection.write("-NO\r\n");
  }
  const connection = await bench.server.accept();
  await connection.readUntil("\r\n");
  await connection.write("+OK\r\n");
  assert.equal(await connection.readUntil("\n"), lines(1));
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  assert.equal(sender.stats().queue.deadPackets, 0);
});

Deno.test("a function opens it over the same stream, and leaves state for transform", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const open = async (session: SessionStream) => {
    const banner = await session.readThrough("\n");
    await session.write(`LOGIN ${banner.length}\n`);
    assert.deepEqual([...await session.read(2)], [0xff, 0x01]);
    await session.expect(/ready[^;]*;/, { refuse: "no" });
    session.state.set("prefix", "7:");
    await assert.rejects(session.read(20_000), RangeError);
  };
  const sender = await bench.open({
    session: { open },
    transform: ({ id, payload }, { sequence, state }) =>
      new TextEncoder().encode(
        `${state.get("prefix")}${sequence}/${id} ${new TextDecoder().decode(payload)}`,
      ),
  });
  await sender.enqueueMany(packets(2));
  const connection = await bench.server.accept();
  await connection.write("hi\n");
  assert.equal(await connection.readUntil("\n"), "LOGIN 3\n");
  await connection.write(Uint8Array.of(0xff, 0x01));
  await connection.write("all ready now;");
  assert.equal(await connection.readUntil("packet 2\n"), "7:1/1 packet 1\n7:2/2 packet 2\n");
});

Deno.test("what a session's function asked for and did not wait for takes nothing of the connection's", async () => {
  let left: Promise<unknown> | undefined;
  const open = async (session: SessionStream) => {
    left = session.expect(/HELLO/);
    left.catch(() => {});
    await Promise.race([left, new Promise((resolve) => setTimeout(resolve, 10))]);
  };
  await using bench = new SenderBench({
    confirm: { framing: "lines", accepted: /^OK/, answerTimeoutMs: 60_000 },
    session: { open },
  });
  const sender = await bench.open();
  await sender.enqueueMany(packets(4));
  const connection = await bench.server.accept();
  for (let i = 1; i <= 4; i++) {
    assert.equal(await connection.readUntil("\n"), `packet ${i}\n`);
    await connection.write("OK\n");
    await until("it is removed", () => sender.stats().queue.packets === 4 - i);
  }
  await assert.rejects(left ?? Promise.resolve(), {
    name: "TypeError",
    message: /session is open/,
  });
});

for (
  const [name, open, kind, words] of [
    [
      "refuses",
      (session: SessionStream) => Promise.resolve(session.refuse("no seat left")),
      "session-refused",
      /no seat left/,
    ],
    [
      "throws a refusal",
      () => Promise.reject(new SessionRefusedError("blocked")),
      "session-refused",
      /blocked/,
    ],
    [
      "fails",
      () => Promise.reject(new TypeError("x is undefined")),
      "healthy",
      /the session's function failed: x is undefined/,
    ],
    [
      "never ends",
      () => new Promise<void>(() => {}),
      "healthy",
      /the session's function has not ended within 0.1 s/,
    ],
  ] as const
) {
  Deno.test(`a session's function that ${name} is said so, and the sender goes on`, async () => {
    await using bench = new SenderBench();
    const session = { open, timeoutMs: 100, refusedBackoffFirstMs: 1e5 };
    const sender = await bench.open({ session });
    const over = failed(sender);
    await sender.enqueue(packet(1));
    const { verdict, error } = await over;
    assert.equal(verdict.kind, kind);
    assert.match(error?.message ?? "", words);
  });
}

Deno.test("a packet that cannot be transformed is a dead letter, and the rest goes on", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const sender = await bench.open({
    transform: ({ id, payload }) => {
      if (id === 2) throw new Error("no checksum for this one");
      return id === 4 ? new Uint8Array() : payload;
    },
  });
  const told = seen(sender, ({ words }) => words.includes("cannot be sent"));
  await sender.enqueueMany(packets(5));
  const connection = await bench.server.accept();
  assert.equal(await connection.readUntil("packet 5\n"), "packet 1\npacket 3\npacket 5\n");
  await until("the rest is confirmed", () => sender.stats().queue.packets === 0);
  const dead = await sender.queue.deadLetters(0, 1000);
  assert.deepEqual(dead.map(({ id, reason, attempts }) => [id, reason, attempts]), [
    [2, "gave-up", 0],
    [4, "gave-up", 0],
  ]);
  assert.match((await told).words, /packet 2 cannot be sent: no checksum for this one/);
});

Deno.test("a transform that returns a Promise is told so, and its failure is nobody's", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const transform = () => Promise.reject(new Error("because of this test"));
  const sender = await bench.open({ transform: transform as unknown as () => Uint8Array });
  const told = seen(sender, ({ words }) => words.includes("cannot be sent"));
  await sender.enqueue("packet 1\n");
  assert.match((await told).words, /it returned a Promise: it has to answer at once/);
  await until("it is a dead letter", () => sender.stats().queue.deadPackets === 1);
});

Deno.test("what is in flight counts the transformed bytes, each packet once", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  let calls = 0;
  const seenBytes: number[] = [];
  const sender: Sender = await bench.open({
    maxInFlightBytes: 3000,
    transform: () => {
      calls++;
      seenBytes.push(sender.stats().inFlightBytes);
      return new Uint8Array(1000).fill(10);
    },
  });
  await sender.enqueueMany(packets(20));
  const connection = await bench.server.accept();
  await connection.skip(20_000);
  await until("all is confirmed", () => sender.stats().queue.packets === 0);
  assert.equal(calls, 20);
  assert.ok(Math.max(...seenBytes) <= 3000);
});

Deno.test("heartbeats in quiet times, and the goodbye before our FIN", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const sender = await bench.open({
    session: { heartbeat: { send: "PING\n", idleMs: 20, expect: "PONG" }, close: "QUIT\n" },
  });
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  assert.equal(await connection.readUntil("PING\n"), `${lines(1)}PING\n`);
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  await connection.write("+PONG\n");
  assert.equal(await connection.readUntil("PING\n"), "PING\n");
  assert.equal(sender.stats().drainedPackets, 1);
  const closed = sender.close();
  let rest = "";
  await connection.readToEnd((text) => rest += text);
  assert.equal(rest, "QUIT\n");
  await closed;
});

Deno.test("a heartbeat without its answer is a dead connection, in words", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const sender = await bench.open({
    session: { heartbeat: { send: "PING\n", idleMs: 10, expect: "PONG", answerTimeoutMs: 50 } },
  });
  const over = seen(sender, ({ verdict }) => verdict.kind === "no-response");
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  await connection.readUntil("PING\n");
  await connection.write("another word\n");
  assert.match((await over).words, /the server has not answered the heartbeat for [0-9]+\.[0-9] s/);
});

Deno.test("separate: packets come one by one, each once the last is acknowledged", async () => {
  await using bench = new SenderBench({ holdMs: 0 });
  const parts: string[] = [];
  const sender = await bench.open({ session: { open: [LOGIN], separate: true } });
  await sender.enqueueMany(packets(20));
  const connection = await bench.server.accept();
  const login = await connection.readUntil("\r\n");
  await connection.write("+OK\r\n");
  let most = 0;
  const watching = setInterval(() => most = Math.max(most, sender.stats().inFlightPackets), 0);
  while (!parts.join("").endsWith("packet 20\n")) {
    parts.push(await within("the next packet", connection.read()));
  }
  clearInterval(watching);
  assert.equal(login, "AUTH secret\r\n");
  assert.equal(parts.join(""), lines(20));
  assert.ok(most <= 1, `${most} packets were in flight`);
});
