/**
 * Confirmation by answers, against scripted servers on real sockets.
 */
import assert from "node:assert/strict";
import { OptionError, PacketRefusedError } from "../../src/base/errors.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import type { Sender } from "../../src/sender/sender.ts";
import type { AnswerConfirmation } from "../../src/session/answers.ts";
import { packet, packets } from "../support/packets.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

const LINES: AnswerConfirmation = { framing: "lines", accepted: /^OK/, refused: /^ERR/ };
const KEYED: AnswerConfirmation = {
  framing: "lines",
  accepted: /^OK (?<key>\d+)/,
  refused: /^ERR (?<key>\d+)/,
  keyOf: /packet (?<key>\d+)/,
  maxUnanswered: 10,
};

function bench(
  confirm: AnswerConfirmation,
  options: Partial<SenderOptions> = {},
): SenderBench {
  return new SenderBench({ confirm, backoffFirstMs: 1, backoffCapMs: 1, ...options });
}

const gaveUp = (sender: Sender) =>
  seen(sender, ({ words }) => words.startsWith("connection given"));

async function letters(sender: Sender): Promise<(readonly [number, string, string | undefined])[]> {
  const found = await sender.queue.deadLetters(0, Infinity);
  return found.map(({ id, reason, words }) => [id, reason, words]);
}

Deno.test("stop and wait: a packet is removed by its answer, and the next one follows", async () => {
  await using world = bench(LINES);
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const drained = sender.drained();
  const connection = await world.server.accept();
  for (let i = 1; i <= 3; i++) {
    assert.equal(await connection.readUntil("\n"), `packet ${i}\n`);
    await until("it is acknowledged", () => sender.stats().heldPackets === 1);
    const { queue, confirmedBy } = sender.stats();
    assert.deepEqual([queue.packets, confirmedBy], [4 - i, "answer"]);
    // In parts, and with what is no answer before it.
    await connection.write("HELLO\nO");
    await connection.write("K\n");
    await until("it is removed", () => sender.stats().queue.packets === 3 - i);
  }
  await within("drained() resolves", drained);
  assert.equal(sender.stats().redeliveredPackets, 0);
});

Deno.test("a server that closes early: no option is named that is refused beside answers", async () => {
  await using world = bench(LINES);
  const sender = await world.open();
  const named = seen(sender, ({ verdict }) => verdict.kind === "closes-early");
  await sender.enqueue(packet(1));
  for (let round = 0; round < 3; round++) {
    const connection = await world.server.accept();
    await connection.readUntil("packet 1\n");
    connection.close();
  }
  const { verdict, words } = await named;
  assert.deepEqual(verdict, { kind: "closes-early", times: 3, confirmedBy: "answer" });
  assert.match(words, /3 connections in a row.*or it closes soon; 1 packet will/);
  assert.doesNotMatch(words, /on-peer-fin/);
});

Deno.test("the kernel's acknowledgement and a hold that has passed confirm nothing", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 2, answerTimeoutMs: 400 });
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const ended = gaveUp(sender);
  const first = await world.server.accept();
  assert.equal(await first.readUntil("packet 2\n"), "packet 1\npacket 2\n");
  const { verdict, words } = await ended;
  assert.deepEqual(verdict.kind === "no-response" && verdict.to, "answers");
  assert.match(words, /its program has not answered for \d+\.\d s; 2 packets will be sent again$/);
  const second = await world.server.accept();
  assert.equal(await second.readUntil("packet 2\n"), "packet 1\npacket 2\n");
  assert.equal(sender.stats().queue.packets, 3);
});

Deno.test("a refused packet becomes a dead letter with the server's words, and is never removed", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 3 });
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const connection = await world.server.accept();
  await connection.readUntil("packet 3\n");
  await connection.write("OK\nERR not today\x1b[31m\nOK\n");
  await until("all is answered", () => sender.stats().queue.packets === 0);
  assert.deepEqual(await letters(sender), [[2, "refused", '"ERR not today\\x1b[31m"']]);
  assert.equal(sender.stats().queue.refusedPackets, 1);
  await sender.enqueue(packet(4));
  assert.equal(await connection.readUntil("\n"), "packet 4\n");
});

Deno.test("what waits for an answer expires as any other, and takes no number of a transform", async () => {
  const encoder = new TextEncoder();
  await using world = bench({ ...KEYED, maxUnanswered: 1 }, {
    transform: ({ payload }, { sequence }) => {
      const number = encoder.encode(`${sequence}: `);
      return new Uint8Array([...number, ...payload]);
    },
  });
  const sender = await world.open();
  await sender.enqueue(packet(1));
  const connection = await world.server.accept();
  assert.equal(await connection.readUntil("\n"), "1: packet 1\n");
  await sender.queue.enqueue(packet(2), { ttlMs: 200 });
  const expiresAtMs = performance.now() + 200;
  await sender.enqueue(packet(3));
  await until("the second one has expired", () => performance.now() > expiresAtMs + 50);
  await connection.write("OK 1\n");
  assert.equal(await connection.readUntil("\n"), "2: packet 3\n");
  await until("it is a dead letter", () => sender.stats().queue.deadPackets === 1);
  assert.deepEqual(await letters(sender), [[2, "expired", undefined]]);
});

Deno.test("a refusal that is to be tried again ends the connection, and pauses", async () => {
  await using world = bench({ ...LINES, onRefused: "retry", retryFirstMs: 100, retryCapMs: 100 });
  const sender = await world.open();
  await sender.enqueueMany(packets(2));
  const ended = gaveUp(sender);
  const first = await world.server.accept();
  await first.readUntil("\n");
  await first.write("ERR later\n");
  const { verdict, words } = await ended;
  assert.deepEqual(verdict, { kind: "packet-refused", id: 1, words: '"ERR later"' });
  assert.match(words, /the server refused packet 1: "ERR later"; 1 packet will be sent again$/);
  const second = await world.server.accept();
  assert.equal(await second.readUntil("\n"), "packet 1\n");
  await second.write("OK\n");
  assert.equal(await second.readUntil("\n"), "packet 2\n");
  assert.deepEqual(await letters(sender), []);
});

Deno.test("a refusal can stop the sender; what was answered before is gone, the packet stays", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 3, onRefused: "stop" });
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const connection = await world.server.accept();
  await connection.readUntil("packet 3\n");
  await connection.write("OK\nERR bad\nOK\n");
  await assert.rejects(within("it stops", sender.closed), (error) => {
    assert(error instanceof PacketRefusedError);
    assert.deepEqual([error.id, error.said], [2, '"ERR bad"']);
    return true;
  });
  await assert.rejects(sender.close());
  const { confirmedPackets, drainedPackets, ackedBytes } = sender.stats();
  assert.deepEqual([confirmedPackets, drainedPackets, ackedBytes], [1, 3, 27]);
  const again = await world.open();
  const next = await world.server.accept();
  assert.equal(await next.readUntil("packet 3\n"), "packet 2\npacket 3\n");
  assert.equal(again.stats().queue.packets, 2);
});

Deno.test("an answer while no packet waits ends the connection, and confirms nothing later", async () => {
  await using world = bench(LINES);
  const sender = await world.open();
  await sender.enqueueMany(packets(2));
  const ended = gaveUp(sender);
  const first = await world.server.accept();
  await first.readUntil("\n");
  await first.write("OK\nOK\n");
  const { verdict } = await ended;
  assert.deepEqual(verdict, {
    kind: "wrong-answer",
    words: 'the server said "OK" while no packet waited for an answer',
  });
  const second = await world.server.accept();
  assert.equal(await second.readUntil("\n"), "packet 2\n");
  assert.equal(sender.stats().queue.packets, 1);
});

Deno.test("an answer belongs to its connection: one that was due confirms nothing on the next", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 2 });
  const sender = await world.open();
  await sender.enqueueMany(packets(2));
  const first = await world.server.accept();
  await first.readUntil("packet 2\n");
  await first.write("OK\nO");
  await until("packet 1 is answered", () => sender.stats().queue.packets === 1);
  first.close();
  const second = await world.server.accept();
  assert.equal(await second.readUntil("\n"), "packet 2\n");
  // The rest of what the first connection has begun to say.
  await second.write("K\n");
  await second.write("HELLO\n");
  await until("it was heard", () => sender.stats().receivedBytes === 4 + 2 + 6);
  assert.equal(sender.stats().queue.packets, 1);
  await second.write("OK\n");
  await until("it is answered", () => sender.stats().queue.packets === 0);
});

Deno.test("a heartbeat's answer that looks like a packet's confirms none, and packets wait for it", async () => {
  await using world = bench({ framing: "lines", accepted: "250", refused: "550" }, {
    connect: "always",
    session: { heartbeat: { send: "NOOP\n", idleMs: 50, expect: "250 OK\n" } },
  });
  const sender = await world.open();
  const connection = await world.server.accept();
  // With nothing under way, and with a packet that comes meanwhile.
  await connection.readUntil("NOOP\n");
  await connection.write("250 OK\n");
  assert.equal(await connection.readUntil("NOOP\n"), "NOOP\n");
  await sender.enqueue(packet(1));
  await until("the heartbeat is acknowledged", () => sender.stats().inFlightBytes === 0);
  assert.equal(sender.stats().inFlightPackets + sender.stats().heldPackets, 0);
  // On a slow machine the next one may be due before the packet is read.
  let said = "NOOP\n";
  while (said === "NOOP\n") {
    await connection.write("250 OK\n");
    said = await connection.readUntil("\n");
  }
  assert.equal(said, "packet 1\n");
  await connection.write("550 no\n");
  await until("it is a dead letter", () => sender.queue.stats().deadPackets === 1);
  assert.deepEqual(await letters(sender), [[1, "refused", '"550 no"']]);
  const { connections, confirmedPackets, redeliveredPackets } = sender.stats();
  assert.deepEqual([connections, confirmedPackets, redeliveredPackets], [1, 0, 0]);
});

Deno.test("with keys answers come in any order; an unknown key is no answer, and said once", async () => {
  await using world = bench(KEYED);
  const warnings: string[] = [];
  const logger = {
    ...{ debug() {}, info() {}, error() {} },
    warn: (words: string) => warnings.push(words),
  };
  const sender = await world.open({ logger });
  await sender.enqueueMany(packets(4));
  const connection = await world.server.accept();
  await connection.readUntil("packet 4\n");
  await connection.write("OK 3\nOK 2\nOK 99\nOK 3\n");
  await until("it was heard", () => warnings.length > 0);
  assert.equal(sender.stats().queue.packets, 4);
  await connection.write("OK 1\n");
  await until("the first three are removed", () => sender.stats().queue.packets === 1);
  await connection.write("ERR 4 no\n");
  await until("the last one is dead", () => sender.stats().queue.packets === 0);
  assert.deepEqual(await letters(sender), [[4, "refused", '"ERR 4 no"']]);
  assert.equal(warnings.filter((words) => words.includes("has the key")).length, 1);
});

Deno.test("a packet without a key becomes a dead letter, and says why", async () => {
  await using world = bench(KEYED);
  const sender = await world.open();
  await sender.enqueueMany([packet(1), "no number\n", packet(3)]);
  const connection = await world.server.accept();
  assert.equal(await connection.readUntil("packet 3\n"), "packet 1\npacket 3\n");
  await connection.write("OK 1\nOK 3\n");
  await until("the rest is answered", () => sender.stats().queue.packets === 0);
  assert.deepEqual(await letters(sender), [
    [2, "gave-up", "/packet (?<key>\\d+)/ does not match it"],
  ]);
});

Deno.test("a judge of one's own: so many, all through a key, all", async () => {
  await using world = bench({
    framing: "lines",
    maxUnanswered: 6,
    keyOf: (packet) => Number(/\d+/.exec(new TextDecoder().decode(packet))),
    judge: (answer) => {
      const [word, number] = new TextDecoder().decode(answer).split(" ");
      if (word === "NEXT") return { verdict: "accepted", packets: Number(number) };
      if (word === "THROUGH") return { verdict: "accepted", through: Number(number) };
      return word === "ALL" ? { verdict: "accepted", packets: "all" } : "ignored";
    },
  });
  const sender = await world.open();
  await sender.enqueueMany(packets(6));
  const connection = await world.server.accept();
  await connection.readUntil("packet 6\n");
  for (
    const [answer, left] of [["NEXT 2", 4], ["THROUGH 4", 2], ["WHAT", 2], ["ALL", 0]] as const
  ) {
    await connection.write(`${answer}\n`);
    await until(answer, () => sender.stats().queue.packets === left);
  }
});

Deno.test("a key is the same as a number and as what is found in an answer", async () => {
  await using world = bench({
    framing: "lines",
    accepted: /^OK (?<key>\d+)/,
    keyOf: (packet) => Number(/\d+/.exec(new TextDecoder().decode(packet))),
  });
  const sender = await world.open();
  await sender.enqueue(packet(7));
  const connection = await world.server.accept();
  await connection.readUntil("packet 7\n");
  await connection.write("OK 7\n");
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
});

Deno.test("keyOf is asked once for each packet that goes out: one that cannot say it twice stops nobody", async () => {
  // Its next search begins where the last one ended, and finds nothing.
  const pattern = /packet \d/g;
  await using world = bench({
    framing: "lines",
    accepted: /^OK (?<key>.+)/,
    keyOf: (packet) => pattern.exec(new TextDecoder().decode(packet))?.[0],
  });
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const connection = await world.server.accept();
  for (const number of [1, 3]) {
    assert.equal(await connection.readUntil("\n"), `packet ${number}\n`);
    await connection.write(`OK packet ${number}\n`);
  }
  await until("all is answered", () => sender.stats().queue.packets === 0);
  assert.deepEqual((await letters(sender)).map(([id, reason]) => [id, reason]), [[2, "gave-up"]]);
});

for (const ask of ["judge", "keyOf"] as const) {
  Deno.test(`a ${ask} that returns a Promise is told so, and its failure is nobody's`, async () => {
    const fails = () => Promise.reject(new Error("because of this test"));
    const own = ask === "judge" ? { judge: fails } : { keyOf: fails, accepted: KEYED.accepted };
    await using world = bench({ framing: "lines", ...own } as unknown as AnswerConfirmation);
    const sender = await world.open();
    const told = seen(sender, ({ words }) => words.includes("returned a Promise: it has to"));
    await sender.enqueue(packet(1));
    if (ask === "judge") await (await world.server.accept()).write("OK\n");
    await told;
  });
}

for (
  const [verdict, words] of [
    [{ verdict: "accepted", key: undefined }, /the judge gave no key/],
    [{ verdict: "accepted", through: undefined }, /the judge gave no key/],
    [{ verdict: "refused", key: undefined }, /the judge gave no key/],
    [{ verdict: "refused", through: 2 }, /none of the verdicts/],
    [{ verdict: "refused", packets: 2 }, /none of the verdicts/],
  ] as const
) {
  Deno.test(`a judge that gives ${Deno.inspect(verdict)} has not judged the next packet`, async () => {
    await using world = bench(
      { framing: "lines", keyOf: KEYED.keyOf, judge: () => verdict } as AnswerConfirmation,
    );
    const sender = await world.open();
    await sender.enqueue(packet(1));
    const ended = gaveUp(sender);
    const connection = await world.server.accept();
    await connection.readUntil("packet 1\n");
    await connection.write("HELLO\n");
    const { verdict: { kind }, words: told } = await ended;
    assert.equal(kind, "wrong-answer");
    assert.match(told, words);
    const { queue: { packets, refusedPackets } } = sender.stats();
    assert.deepEqual([packets, refusedPackets], [1, 0]);
  });
}

Deno.test("more packets answered than were sent is a wrong answer, and confirms none", async () => {
  await using world = bench({
    framing: "lines",
    maxUnanswered: 2,
    judge: () => ({ verdict: "accepted", packets: 3 }),
  });
  const sender = await world.open();
  await sender.enqueueMany(packets(3));
  const ended = gaveUp(sender);
  const connection = await world.server.accept();
  await connection.readUntil("packet 2\n");
  await connection.write("x\n");
  assert.match((await ended).words, /as the answer to 3 packets, and 2 waited for one/);
  assert.equal(sender.stats().queue.packets, 3);
});

Deno.test("what the server says that is larger than any answer is a wrong answer", async () => {
  await using world = bench(LINES);
  const sender = await world.open();
  await sender.enqueue(packet(1));
  const ended = gaveUp(sender);
  const connection = await world.server.accept();
  await connection.readUntil("\n");
  await connection.write("x".repeat(70_000)).catch(() => {});
  assert.match((await ended).words, /wrong answer: its answers are framed otherwise: /);
});

Deno.test("close() waits for answers, and sends its FIN behind them", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 2 });
  const sender = await world.open();
  await sender.enqueueMany(packets(2));
  const connection = await world.server.accept();
  await connection.readUntil("packet 2\n");
  const closed = sender.close({ deliverTimeoutMs: Infinity });
  await until("both are acknowledged", () => sender.stats().heldPackets === 2);
  await connection.write("OK\n");
  await until("one is removed", () => sender.stats().queue.packets === 1);
  await connection.write("OK\n");
  assert.equal(await within("our FIN", connection.read()), "");
  connection.close();
  await within("it closes", closed);
  assert.equal(sender.stats().queue.packets, 0);
});

Deno.test("an answer that is the server's last word counts, also where it resets behind it", async () => {
  await using world = bench({ ...LINES, maxUnanswered: 2 });
  const sender = await world.open();
  await sender.enqueueMany(packets(2));
  const first = await world.server.accept();
  await first.readUntil("packet 2\n");
  await first.write("OK\n");
  first.close();
  const second = await world.server.accept();
  assert.equal(await second.readUntil("\n"), "packet 2\n");
  assert.equal(sender.stats().queue.packets, 1);
});

for (const end of ["the server ends behind its answers", "the sender closes before them"]) {
  Deno.test(`what is accepted behind a refused packet counts where ${end}`, async () => {
    await using world = bench({ ...LINES, maxUnanswered: 5 });
    const sender = await world.open();
    await sender.enqueueMany(packets(5));
    const first = await world.server.accept();
    await first.readUntil("packet 5\n");
    const over = seen(sender, ({ words }) => /everything was confirmed|will be sent/.test(words));
    const closing = end.startsWith("the sender")
      ? sender.close({ deliverTimeoutMs: 0 })
      : undefined;
    over.catch(() => {}); // Nothing of it is told where the sender closes.
    if (closing !== undefined) assert.equal(await within("the sender's FIN", first.read()), "");
    await first.write("ERR one\nOK\nOK\nERR four\nOK\n");
    first.close();
    await (closing ?? over);
    await sender.close({ deliverTimeoutMs: 0 });

    const { queue, confirmedPackets } = sender.stats();
    assert.deepEqual([queue.packets, queue.refusedPackets, confirmedPackets], [0, 2, 3]);
    // Nothing of it comes again.
    const next = await world.open();
    await next.enqueue(packet(6));
    const second = await world.server.accept();
    assert.equal(await second.readUntil("packet 6\n"), "packet 6\n");
    assert.equal(next.stats().redeliveredPackets, 0);
  });
}

Deno.test("a connection that is given up with unanswered packets ends by a reset", async () => {
  await using world = bench({ ...LINES, answerTimeoutMs: 400 });
  const sender = await world.open();
  await sender.enqueueMany(packets(1));
  const first = await world.server.accept();
  // The last byte is left, and still there behind the reset.
  assert.equal(await first.read(8), "packet 1");
  assert.equal(await within("its end", first.endedBy()), "ConnectionReset");
  const second = await world.server.accept();
  assert.equal(await second.readUntil("\n"), "packet 1\n");
});

Deno.test("options that cannot work are refused in words", async (t) => {
  const cases: readonly (readonly [string, Partial<SenderOptions>, RegExp])[] = [
    ["no framing", { confirm: { accepted: "OK" } as never }, /^confirm\.framing is needed/],
    ["chunks", { confirm: { ...LINES, framing: "chunks" } }, /^confirm\.framing must be one that/],
    ["nothing accepts", { confirm: { framing: "lines" } }, /^confirm\.accepted is needed/],
    [
      "a misspelt name",
      { confirm: { ...LINES, acepted: 1 } as never },
      /^confirm\.acepted is no option \(is accepted meant\?\)$/,
    ],
    [
      "key without keyOf",
      { confirm: { ...LINES, accepted: /(?<key>1)/ } },
      /^confirm\.accepted has/,
    ],
    ["keyOf without key", { confirm: { ...LINES, keyOf: /(?<key>1)/ } }, /^confirm\.accepted must/],
    ["a keyOf without a group", { confirm: { ...KEYED, keyOf: /1/ } }, /^confirm\.keyOf must have/],
    [
      "judge and patterns",
      { confirm: { ...LINES, judge: () => "ignored" } },
      /^confirm\.judge stands/,
    ],
    ["no window", { confirm: { ...LINES, maxUnanswered: 0 } }, /^confirm\.maxUnanswered must be/],
    ["a hold beside it", { confirm: LINES, holdMs: 5 }, /^holdMs means nothing where answers/],
    [
      "a FIN that confirms",
      { confirm: LINES, onPeerFin: "confirm" },
      /^onPeerFin must be reconnect/,
    ],
  ];
  for (const [name, options, words] of cases) {
    await t.step(name, async () => {
      await using world = new SenderBench();
      await assert.rejects(world.open(options), (error) => {
        assert(error instanceof OptionError, String(error));
        assert.match(error.message, words);
        return true;
      });
    });
  }
});
