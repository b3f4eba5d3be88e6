import assert from "node:assert/strict";
import { KernelCallError } from "../../src/base/errors.ts";
import type { Clock } from "../../src/base/ports.ts";
import {
  Connection,
  type ConnectionLimits,
  type ConnectionReading,
} from "../../src/delivery/connection.ts";
import { HOLD_GRAIN_MS } from "../../src/delivery/hold.ts";
import { answerPlanOf } from "../../src/session/answers.ts";
import { FakeWire } from "./fake_wire.ts";

class Bench {
  readonly wire = new FakeWire();
  nowMs = 0;
  readonly #clock: Clock = {
    nowMs: () => this.nowMs,
    wallMs: () => 0,
    setTimer: () => () => {},
    defer: () => {},
  };
  readonly connection: Connection;
  #nextId = 1;

  constructor(
    prepare: (wire: FakeWire) => void = () => {},
    onPeerFin: ConnectionLimits["onPeerFin"] = "reconnect",
    confirmation: Partial<Pick<ConnectionLimits, "answers" | "reads" | "holdMs">> = {},
  ) {
    prepare(this.wire);
    this.connection = new Connection({
      wire: this.wire,
      clock: this.#clock,
      limits: {
        stallTimeoutMs: 3000,
        peerStallTimeoutMs: 60_000,
        keepAlive: undefined,
        holdMs: 1000,
        onPeerFin,
        ...confirmation,
      },
      afterId: 0,
      lastId: () => 0,
      onEnd: () => {},
      onWritten: () => {},
      onReceived: () => {},
    });
  }

  /** Hands over packets and lets the writes be told. */
  async send(...texts: string[]): Promise<void> {
    let endBytes = 0;
    const ends = texts.map((text) => endBytes += text.length);
    const bytes = new TextEncoder().encode(texts.join(""));
    this.connection.send([{
      firstId: this.#nextId,
      bytes,
      ends: Uint32Array.from(ends),
      expiresAtMs: Infinity,
    }]);
    this.#nextId += texts.length;
    await this.settle();
  }

  /** Lets every promise that is due be told. */
  async settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** Polls every 50 ms for a while, or until the end. */
  watch(forMs: number): ConnectionReading {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      this.nowMs += 50;
      this.wire.lastAckMs += 50;
      const reading = this.connection.poll();
      if (reading.ended || this.nowMs >= untilMs) return reading;
    }
  }
}

Deno.test("our SYN is no acknowledged byte", async () => {
  const bench = new Bench();
  await bench.send("a");
  bench.wire.sendQueueBytes = 1;
  bench.connection.poll();
  assert.equal(bench.connection.drainedThroughId, 0);
  bench.wire.bytesAcked = 2;
  bench.wire.sendQueueBytes = 0;
  bench.connection.poll();
  assert.equal(bench.connection.drainedThroughId, 1);
});

Deno.test("bytes that are under way and no packet's refuse the connection: they would confirm one", () => {
  assert.throws(() => new Bench((wire) => wire.sendQueueBytes = 5), {
    name: "WireError",
    message: /5 bytes that are no packet's are not acknowledged yet/,
  });
  // What is dead carries nothing.
  new Bench((wire) => Object.assign(wire, { sendQueueBytes: 1, state: 7 }));
});

Deno.test("with nothing under way a reading is good for five milliseconds", async () => {
  const bench = new Bench();
  const { connection, wire } = bench;
  let samples = 0;
  const sample = wire.sample.bind(wire);
  wire.sample = () => (samples++, sample());
  const readings = (isFresh: boolean) => {
    samples = 0;
    const { pollInMs, progressed } = connection.poll(isFresh);
    return { samples, pollInMs, progressed };
  };
  const { pollInMs } = connection.poll();
  bench.nowMs += 4;
  assert.deepEqual(readings(false), { samples: 0, pollInMs: pollInMs - 4, progressed: false });
  assert.equal(readings(true).samples, 1);
  bench.nowMs += 5;
  assert.equal(readings(false).samples, 1);
  // Bytes on their way are looked for, and what has come of them is told once.
  await bench.send("a");
  assert.equal(readings(false).samples, 1);
  wire.bytesAcked = 2;
  const { samples: taken, progressed } = readings(false);
  assert.deepEqual([taken, progressed], [1, true]);
  assert.deepEqual(readings(false).progressed, false);
  assert.equal(readings(false).samples, 0);
  // Whatever the peer says may be its end.
  wire.peerSays("x");
  await bench.settle();
  assert.equal(readings(false).samples, 1);
  wire.peerFin();
  await bench.settle();
  assert.equal(connection.poll(false).peerClosed, true);
});

Deno.test("packets share a write, in order", async () => {
  const bench = new Bench();
  bench.wire.holdsWrites = true;
  await bench.send("a", "b", "c");
  await bench.send("d");
  assert.deepEqual(bench.wire.written, ["abc"]);
});

Deno.test("a write that takes a part is continued where it ended", async () => {
  const bench = new Bench((wire) => wire.takesBytes = 3);
  await bench.send("abcdefgh");
  assert.deepEqual(bench.wire.written, ["abc", "def", "gh"]);
});

Deno.test("bytes the kernel acknowledged before we were told of the write wait for it", async () => {
  const bench = new Bench();
  bench.wire.holdsWrites = true;
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  assert.equal(bench.connection.poll().ended, false);
  assert.equal(bench.connection.drainedThroughId, 0);
});

Deno.test("bytes_acked beyond written − Send-Q confirms nothing and ends the connection", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  bench.wire.sendQueueBytes = 3;
  const { ended } = bench.connection.poll();
  assert.equal(ended, true);
  assert.equal(bench.connection.drainedThroughId, 0);
});

Deno.test("an acknowledgement between the two readings is no contradiction", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 1;
  bench.wire.sendQueueBytes = 0;
  assert.equal(bench.connection.poll().ended, false);
  assert.equal(bench.connection.drainedThroughId, 0);
});

Deno.test("a reading that fails confirms nothing and ends the connection", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  bench.wire.sampleError = new KernelCallError("ioctl(SIOCOUTQ)", "failed");
  const { ended, verdict } = bench.connection.poll();
  assert.equal(ended, true);
  assert.ok(verdict.kind === "local-fault" && verdict.fault.kind === "unreadable");
  assert.equal(bench.connection.drainedThroughId, 0);
});

Deno.test("the last reading after a death counts, and what it leaves is aborted", async () => {
  const bench = new Bench();
  await bench.send("abc", "def");
  bench.wire.state = 7;
  bench.wire.bytesAcked = 4;
  bench.wire.sendQueueBytes = 3;
  bench.wire.failRead("ECONNRESET");
  await bench.settle();
  const { ended, verdict } = bench.connection.poll();
  assert.equal(ended, true);
  assert.deepEqual(verdict, { kind: "reset", code: "ECONNRESET" });
  assert.equal(bench.connection.drainedThroughId, 1);
  bench.connection.dispose();
  assert.ok(bench.wire.log.includes("abort") && !bench.wire.log.includes("close"));
});

Deno.test("state CLOSE waits for a read whose error is on its way", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.state = 7;
  bench.wire.bytesAcked = 4;
  assert.equal(bench.connection.poll().ended, false);
  bench.wire.failRead("ETIMEDOUT");
  await bench.settle();
  assert.deepEqual(bench.connection.poll().verdict, { kind: "timed-out", code: "ETIMEDOUT" });
});

Deno.test("a pending operation that never tells does not hold up the verdict for ever", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.state = 7;
  const { ended } = bench.watch(2000);
  assert.equal(ended, true);
});

/** Everything acknowledged at 3.9 s, not yet held; then, at 9 s, the peer's FIN. */
async function afterFin(onPeerFin?: ConnectionLimits["onPeerFin"]): Promise<Bench> {
  const bench = new Bench(() => {}, onPeerFin);
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  bench.nowMs = 4000;
  bench.wire.lastAckMs = 100;
  bench.connection.poll();
  assert.equal(bench.connection.confirmation.heldPackets, 1);
  bench.nowMs = 9000;
  bench.wire.lastAckMs = 0;
  bench.wire.state = 8;
  bench.wire.peerFin();
  await bench.settle();
  return bench;
}

Deno.test("from the peer's FIN on nobody vouches for its program", async () => {
  const bench = await afterFin();
  for (const nowMs of [9000, 9500, 20_000]) {
    bench.nowMs = nowMs;
    const { alive, peerClosed } = bench.connection.poll();
    assert.deepEqual({ alive, peerClosed }, { alive: true, peerClosed: true });
    assert.equal(bench.connection.confirmation.confirmedThroughId, 0);
  }
});

Deno.test("the kernel's state says FIN before the read does", async () => {
  for (const [state, confirmed] of [[1, 1], [8, 0]] as const) {
    const bench = new Bench();
    await bench.send("abc");
    bench.wire.bytesAcked = 4;
    bench.connection.poll();
    bench.nowMs = 2000;
    bench.wire.state = state;
    bench.connection.poll();
    assert.equal(bench.connection.confirmation.confirmedThroughId, confirmed);
  }
});

Deno.test("a server that is known to half-close, or to close, is vouched for by its signs of life", async () => {
  for (const onPeerFin of ["keep-sending", "confirm"] as const) {
    const bench = await afterFin(onPeerFin);
    bench.connection.poll();
    assert.equal(bench.connection.confirmation.confirmedThroughId, 1);
  }
});

Deno.test("nothing is vouched for by a dead connection", async () => {
  const bench = await afterFin("confirm");
  bench.wire.state = 7;
  assert.equal(bench.connection.poll().alive, false);
  assert.equal(bench.connection.confirmation.confirmedThroughId, 0);
});

Deno.test("the acknowledgement of our FIN does not say that the peer reads", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 4; // SYN and 3 bytes
  bench.wire.sendWindowBytes = 1000; // less than a segment: shut
  bench.nowMs = 50;
  bench.connection.poll();
  bench.connection.finish(true);
  bench.wire.bytesAcked = 5;
  for (const nowMs of [5000, 10_000]) {
    bench.nowMs = nowMs;
    bench.connection.poll();
    assert.equal(bench.connection.confirmation.confirmedThroughId, 0);
  }
});

Deno.test("a FIN that the kernel refuses ends the connection in words, whoever sends it", async () => {
  for (const whileWriting of [false, true]) {
    const bench = new Bench();
    bench.wire.finError = new KernelCallError("shutdown(SHUT_WR)", "refused");
    const sent = bench.send("abc");
    if (!whileWriting) await sent;
    bench.connection.finish(true);
    await sent;
    await bench.settle();
    const { ended, alive, verdict } = bench.connection.poll();
    assert.deepEqual([ended, alive, verdict.kind], [true, false, "local-fault"]);
  }
});

Deno.test("both ends closed without an error: the peer's close, and no proof of anything", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.connection.finish(true);
  bench.wire.bytesAcked = 5; // SYN, 3 bytes, FIN
  bench.wire.state = 7;
  bench.wire.peerFin();
  await bench.settle();
  const { ended, alive, verdict } = bench.connection.poll();
  assert.deepEqual({ ended, alive, verdict }, {
    ended: true,
    alive: false,
    verdict: { kind: "peer-closed" },
  });
  bench.connection.dispose();
  assert.ok(bench.wire.log.includes("close") && !bench.wire.log.includes("abort"));
});

for (
  const { what, confirmation, confirm } of [
    {
      what: "read",
      confirmation: { reads: true },
      confirm: (wire: FakeWire) => void (wire.readBytes = 4),
    },
    {
      what: "answered",
      confirmation: { answers: answerPlanOf({ framing: "lines", accepted: "OK" }) },
      confirm: (wire: FakeWire) => wire.peerSays("OK\n"),
    },
  ] as const
) {
  Deno.test(`packets that come again leave no orderly end, where what is ${what} confirms`, async () => {
    const endsBy = async (isConfirmed: boolean) => {
      const bench = new Bench((wire) => wire.readBytes = 1, undefined, confirmation);
      await bench.send("abc");
      bench.wire.bytesAcked = 4;
      if (isConfirmed) confirm(bench.wire);
      await bench.settle();
      bench.connection.poll();
      assert.equal(bench.connection.inFlightBytes, 0);
      bench.connection.dispose();
      return bench.wire.log.filter((call) => call === "close" || call === "abort");
    };
    assert.deepEqual(await endsBy(false), ["abort"]);
    assert.deepEqual(await endsBy(true), ["close"]);
  });
}

Deno.test("an error that nobody was told yet names the end", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.connection.finish(true);
  bench.wire.state = 7;
  bench.wire.peerFin();
  bench.wire.socketError = "ECONNRESET";
  await bench.settle();
  assert.deepEqual(bench.connection.poll().verdict, { kind: "reset", code: "ECONNRESET" });
});

Deno.test("a read of nothing without our FIN is a reset that somebody else was told of", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  bench.wire.state = 7;
  bench.wire.peerFin();
  await bench.settle();
  const { ended, verdict } = bench.connection.poll();
  assert.equal(ended, true);
  assert.equal(verdict.kind, "reset");
});

Deno.test("a read or a write that fails while TCP lives is the end, and confirms nothing", async () => {
  for (const what of ["read", "write"] as const) {
    const bench = new Bench();
    bench.wire.holdsWrites = true;
    await bench.send("abc");
    if (what === "read") bench.wire.failRead("EPROTO");
    else bench.wire.failWrite("EPROTO");
    await bench.settle();
    const { ended, alive, verdict } = bench.connection.poll();
    assert.deepEqual({ ended, alive, verdict }, {
      ended: true,
      alive: false,
      verdict: { kind: "wire-failed", code: "EPROTO", words: "EPROTO" },
    });
  }
});

Deno.test("a write that this side has ended, and that the kernel took, is no contradiction", async () => {
  const bench = new Bench();
  bench.wire.holdsWrites = true;
  await bench.send("abc");
  bench.wire.failWrite("REPLACED");
  await bench.settle();
  bench.wire.bytesAcked = 4;
  const { ended, verdict } = bench.connection.poll();
  assert.equal(ended, true);
  assert.equal(verdict.kind, "ended-here");
  assert.equal(bench.connection.drainedThroughId, 0);
});

for (const [holdMs, minHoldMs] of [[1000, 0], [0, 5000]] as const) {
  const which = `${holdMs} ms, the wire's ${minHoldMs}`;
  Deno.test(`a process that stands still before it reads the kernel holds from the acknowledgement on: ${which}`, async () => {
    const bench = new Bench((wire) => wire.minHoldMs = minHoldMs, undefined, { holdMs });
    await bench.send("abc");
    bench.wire.onSample = () => {
      // Meanwhile the acknowledgement comes, a moment before the reading.
      bench.nowMs += 5000;
      bench.wire.bytesAcked = 4;
      bench.wire.lastAckMs = 1;
    };
    bench.connection.poll();
    bench.wire.onSample = () => {};
    bench.wire.lastAckMs = 0;
    const endsAtMs = 4999 + Math.max(holdMs, minHoldMs) - (holdMs > 0 ? HOLD_GRAIN_MS : 0);
    for (const [nowMs, confirmed] of [[endsAtMs - 1, 0], [endsAtMs, 1]] as const) {
      bench.nowMs = nowMs;
      bench.connection.poll();
      assert.equal(bench.connection.confirmation.confirmedThroughId, confirmed);
    }
  });
}

Deno.test("without a hold an acknowledgement confirms, however long a reading takes", async () => {
  for (const holdMs of [0, 20]) {
    const bench = new Bench(undefined, undefined, { holdMs });
    await bench.send("abc");
    bench.wire.bytesAcked = 4;
    bench.wire.onSample = () => void (bench.nowMs += 0.01);
    bench.connection.poll();
    // Else the next sign of life is waited for, a second later.
    assert.equal(bench.connection.confirmation.confirmedThroughId, 1);
  }
});

Deno.test("a wire that asks for a longer hold gets it, until it asks no more", async () => {
  for (const [minHoldMs, endsAtMs] of [[5000, 14_980], [500, 10_980]] as const) {
    const bench = new Bench((wire) => wire.minHoldMs = 5000);
    await bench.send("abc");
    bench.wire.bytesAcked = 4;
    bench.nowMs = 10_000;
    bench.connection.poll();
    bench.wire.minHoldMs = minHoldMs;
    for (const [nowMs, confirmed] of [[endsAtMs - 1, 0], [endsAtMs, 1]] as const) {
      bench.nowMs = nowMs;
      bench.connection.poll();
      assert.equal(bench.connection.confirmation.confirmedThroughId, confirmed);
    }
  }
});

Deno.test("a write that takes nothing is the end: it is not tried for ever", async () => {
  const bench = new Bench();
  bench.wire.takesBytes = 0;
  await bench.send("abc");
  const { ended, verdict } = bench.connection.poll();
  assert.deepEqual({ ended, verdict }, {
    ended: true,
    verdict: {
      kind: "wire-failed",
      code: "UNKNOWN",
      words: "A write that works takes something.",
    },
  });
  assert.equal(bench.wire.written.length, 1);
});

Deno.test("a kernel whose bytes_acked never moves is unreadable, in words, after a second", async () => {
  const bench = new Bench((wire) => wire.bytesAcked = 0);
  await bench.send("abc");
  const { ended, verdict } = bench.watch(5000);
  assert.equal(ended, true);
  assert.ok(verdict.kind === "local-fault" && verdict.fault.kind === "unreadable");
  assert.ok(verdict.fault.words.includes("tcpi_bytes_acked says that 0"), verdict.fault.words);
  assert.ok(bench.nowMs >= 1000 && bench.nowMs <= 1200, String(bench.nowMs));
});

Deno.test("a kernel that refuses to ask the peer is told of, and confirms nothing", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.askError = new KernelCallError("setsockopt(SO_KEEPALIVE)", "refused");
  bench.wire.bytesAcked = 4;
  const { ended, alive, verdict } = bench.connection.poll();
  assert.deepEqual({ ended, alive }, { ended: true, alive: false });
  assert.ok(verdict.kind === "local-fault" && verdict.fault.words === "refused");
});

Deno.test("the peer is asked while something is held, once for each change", async () => {
  const bench = new Bench();
  const logAt = (nowMs: number): readonly string[] => {
    bench.nowMs = nowMs;
    bench.connection.poll();
    return bench.wire.log;
  };
  await bench.send("abc");
  assert.deepEqual(logAt(0), []);
  bench.wire.bytesAcked = 4;
  assert.deepEqual(logAt(10), ["ask"]);
  assert.deepEqual(logAt(20), ["ask"]);
  assert.deepEqual(logAt(1500), ["ask", "ask no more"]);
  assert.deepEqual(logAt(1600), ["ask", "ask no more"]);
});

Deno.test("what is acknowledged and not confirmed is asked for, and looked at when there may be news", async () => {
  const answers = answerPlanOf({ framing: "lines", accepted: "OK" });
  for (
    const [confirmation, pollInMs] of [
      [{ holdMs: 300 }, 300],
      // The peer is asked once a second.
      [{ holdMs: 60_000 }, 1000],
      // What is owed is watched.
      [{ answers }, 200],
      [{ reads: true }, 25],
    ] as const
  ) {
    const reads = "reads" in confirmation;
    const bench = new Bench(
      (wire) => wire.readBytes = reads ? 1 : undefined,
      "reconnect",
      confirmation,
    );
    await bench.send("abc");
    bench.wire.bytesAcked = 4;
    assert.equal(bench.connection.poll().pollInMs, pollInMs);
    assert.deepEqual(bench.wire.log, ["ask"]);
    assert.equal(bench.connection.unconfirmedPackets, 1);
    if (!reads) continue;
    bench.wire.readBytes = 4;
    assert.ok(bench.connection.poll().pollInMs > 1000);
    assert.deepEqual(bench.wire.log, ["ask", "ask no more"]);
    assert.equal(bench.connection.confirmation.confirmedThroughId, 1);
  }
});

Deno.test("a failed write names the death", async () => {
  const bench = new Bench();
  bench.wire.holdsWrites = true;
  await bench.send("abc");
  bench.wire.state = 7;
  bench.wire.failWrite("EPIPE");
  await bench.settle();
  assert.deepEqual(bench.connection.poll().verdict, { kind: "reset", code: "EPIPE" });
});

Deno.test("what the layer above TCP has said names the death, and not the reset behind it", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.state = 7;
  bench.wire.failRead("TLS_ALERT_BAD_RECORD_MAC");
  await bench.settle();
  assert.deepEqual(bench.connection.poll().verdict, {
    kind: "wire-failed",
    code: "TLS_ALERT_BAD_RECORD_MAC",
    words: "TLS_ALERT_BAD_RECORD_MAC",
  });
});

Deno.test("our FIN goes out behind the last byte, not before", async () => {
  const bench = new Bench();
  bench.wire.holdsWrites = true;
  await bench.send("abc");
  bench.connection.finish(true);
  assert.ok(!bench.wire.log.includes("FIN"));
  assert.throws(() => bench.connection.send([]), TypeError);
});

Deno.test("a soft error is remembered as a hint, and asked for no more than four times a second", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.sendQueueBytes = 3;
  bench.wire.socketError = "EHOSTUNREACH";
  const { verdict, ended } = bench.watch(10_000);
  assert.equal(ended, true);
  assert.ok(verdict.kind === "path-dead" && verdict.hint === "EHOSTUNREACH");
  const asked = bench.wire.log.filter((entry) => entry === "SO_ERROR").length;
  assert.ok(asked >= 5 && asked <= 13, String(asked));
});

Deno.test("what the network reported in one silence is no hint about the next", async () => {
  const bench = new Bench();
  const { wire } = bench;
  await bench.send("abc");
  wire.sendQueueBytes = 3;
  wire.socketError = "EHOSTUNREACH";
  assert.equal(bench.watch(1000).ended, false);
  assert.equal(wire.socketError, undefined);
  Object.assign(wire, { bytesAcked: 4, sendQueueBytes: 0, lastAckMs: 0 });
  bench.watch(500);
  await bench.send("def");
  wire.sendQueueBytes = 3;
  const { verdict, ended } = bench.watch(10_000);
  assert.equal(ended, true);
  assert.ok(verdict.kind === "path-dead");
  assert.equal(verdict.hint, undefined);
});

Deno.test("a cause is looked for, too, where only a question has no answer", async () => {
  const down = { kind: "link-down", device: "eth0", words: "down" } as const;
  // The kernel does not count those that this host drops.
  for (const [fault, probes] of [[undefined, 2], [down, 2], [undefined, 0], [down, 0]] as const) {
    const bench = new Bench();
    const { wire } = bench;
    await bench.send("abc");
    wire.bytesAcked = 4;
    bench.connection.poll();
    Object.assign(wire, { probes, fault, socketError: "EHOSTUNREACH" });
    const { verdict, ended } = bench.watch(10_000);
    assert.equal(ended, true);
    const { kind } = verdict;
    assert.equal(kind, fault === undefined ? "path-dead" : "local-fault");
    if (kind === "path-dead") assert.equal(verdict.hint, "EHOSTUNREACH");
  }
});

Deno.test("nobody is asked for a cause while acknowledgements come", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.bytesAcked = 4;
  bench.watch(1000);
  bench.wire.lastAckMs = 0;
  bench.watch(10_000);
  assert.deepEqual(bench.wire.log, ["ask", "ask no more"]);
});

Deno.test("a fault of this host is named within half a second", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.wire.sendQueueBytes = 3;
  bench.wire.fault = { kind: "link-down", device: "eth0", words: "eth0 is down" };
  const { verdict } = bench.watch(500);
  assert.equal(verdict.kind, "local-fault");
});

Deno.test("the link is noted now and then, and only while the peer is heard", async () => {
  const bench = new Bench();
  bench.watch(20_000);
  const { linksNoted } = bench.wire;
  assert.ok(linksNoted >= 1 && linksNoted <= 3, String(linksNoted));
  // An idle connection says nothing of its link, and silence less than nothing.
  bench.wire.lastAckMs = 60_000;
  bench.watch(10_000);
  assert.equal(bench.wire.linksNoted, linksNoted);
  await bench.send("abc");
  bench.wire.sendQueueBytes = 3;
  bench.watch(2000);
  assert.equal(bench.wire.linksNoted, linksNoted);
});

Deno.test("polls: rarely when nothing is in flight, soon when something is", async () => {
  const bench = new Bench();
  assert.ok(bench.connection.poll().pollInMs > 1000);
  await bench.send("abc");
  bench.wire.sendQueueBytes = 3;
  const { pollInMs } = bench.connection.poll();
  assert.ok(pollInMs <= 1, String(pollInMs));
  bench.nowMs += 10_000;
  assert.equal(bench.connection.poll().pollInMs, 50);
  // What is acknowledged now is held.
  Object.assign(bench.wire, { bytesAcked: 4, sendQueueBytes: 0 });
  assert.equal(bench.connection.poll().pollInMs, 1000);
  bench.nowMs += 990;
  assert.ok(bench.connection.poll().pollInMs > 1000);
});
