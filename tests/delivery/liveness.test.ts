import assert from "node:assert/strict";
import type { LocalFault, SocketSample } from "../../src/base/ports.ts";
import {
  describeVerdict,
  freshMemory,
  isNews,
  judge,
  judgeDeath,
  type Judgement,
  levelOf,
  type LivenessLimits,
  type LivenessMemory,
  observe,
  resumedReading,
  type Verdict,
  vouchedUntilMs,
} from "../../src/delivery/liveness.ts";

const LIMITS: LivenessLimits = {
  stallTimeoutMs: 3000,
  peerStallTimeoutMs: 60_000,
  keepAlive: { timeoutMs: 19_000, probes: 3 },
};

const HEALTHY: SocketSample = {
  state: 1,
  sendQueueBytes: 0,
  notSentBytes: 0,
  bytesAcked: 1,
  unackedSegments: 0,
  sendMssBytes: 1448,
  sendWindowBytes: 64_000,
  windowLimitedUs: 0,
  rttUs: 100,
  lastAckMs: 0,
  probes: 0,
  retransmits: 0,
  totalRetransmits: 0,
  hangup: false,
};

/** What one reading looks like; what is left out is healthy and idle. */
interface Reading extends Partial<SocketSample> {
  readonly nowMs: number;
  /** Without it, what the kernel says: no FIN of ours is among it. */
  readonly ackedBytes?: number;
  readonly unackedBytes?: number;
  readonly oldestUnackedMs?: number;
  readonly progressed?: boolean;
  readonly localFault?: LocalFault;
  readonly softError?: string;
  readonly asking?: boolean;
  readonly unreadPackets?: number;
  readonly readOn?: boolean;
}

/** Feeds readings to liveness and keeps the last judgement. */
class Watch {
  memory: LivenessMemory = freshMemory(0);
  limits = LIMITS;

  read(reading: Reading): Judgement {
    const { nowMs, unackedBytes = 0, oldestUnackedMs = 0, progressed = false } = reading;
    const { localFault, softError, asking = false, unreadPackets, readOn, ...sample } = reading;
    const { ackedBytes = sample.bytesAcked ?? HEALTHY.bytesAcked } = reading;
    const observation = {
      nowMs,
      ackedBytes,
      unackedBytes,
      oldestUnackedMs,
      progressed,
      asking,
      ...(unreadPackets === undefined ? {} : { unreadPackets }),
      ...(readOn === undefined ? {} : { readOn }),
      sample: { ...HEALTHY, ...sample },
    };
    this.memory = observe(this.memory, observation);
    return judge(this.memory, observation, { localFault, softError }, this.limits);
  }

  /** Reads every 50 ms until something is given up; answers when. */
  until(endMs: number, at: (nowMs: number) => Omit<Reading, "nowMs">): [number, Judgement] {
    let judgement = this.read({ nowMs: this.memory.atMs, ...at(this.memory.atMs) });
    for (let nowMs = this.memory.atMs + 50; nowMs <= endMs; nowMs += 50) {
      judgement = this.read({ nowMs, ...at(nowMs) });
      if (judgement.giveUp) return [nowMs, judgement];
    }
    return [Infinity, judgement];
  }
}

/** The path has been dead since 0; a byte was written then. */
const deadSinceZero = (nowMs: number) => ({
  unackedBytes: 100,
  oldestUnackedMs: nowMs,
  lastAckMs: nowMs,
  unackedSegments: 1,
});

Deno.test("bytes whose acknowledgement comes to light late end no silence", () => {
  const watch = new Watch();
  const [atMs, { verdict }] = watch.until(10_000, (nowMs) => ({
    ...{ unackedBytes: 10, lastAckMs: nowMs, progressed: nowMs === 2000 },
  }));
  assert.equal(verdict.kind, "path-dead");
  assert.equal(atMs, 3050);
});

Deno.test("nothing outstanding is healthy, however long nothing came", () => {
  const [gaveUpAtMs, { verdict }] = new Watch().until(15_000, (nowMs) => ({ lastAckMs: nowMs }));
  assert.equal(gaveUpAtMs, Infinity);
  assert.equal(verdict.kind, "healthy");
});

Deno.test("silence with bytes outstanding is death just after the stall timeout", () => {
  const [gaveUpAtMs, { verdict }] = new Watch().until(10_000, deadSinceZero);
  assert.ok(gaveUpAtMs > 3000 && gaveUpAtMs <= 3100, String(gaveUpAtMs));
  assert.equal(verdict.kind, "path-dead");
});

Deno.test("an idle spell before the write does not count as silence", () => {
  const watch = new Watch();
  watch.until(60_000, (nowMs) => ({ lastAckMs: nowMs }));
  const [gaveUpAtMs] = watch.until(70_000, (nowMs) => ({
    ...deadSinceZero(nowMs),
    oldestUnackedMs: nowMs - 60_000,
  }));
  assert.ok(gaveUpAtMs > 63_000 && gaveUpAtMs <= 63_100, String(gaveUpAtMs));
});

Deno.test("a long queue behind a slow link is slow, not dead: acknowledgements keep coming", () => {
  const [gaveUpAtMs, { verdict }] = new Watch().until(30_000, (nowMs) => ({
    ...deadSinceZero(nowMs),
    lastAckMs: 90,
    rttUs: 2_000_000,
  }));
  assert.equal(gaveUpAtMs, Infinity);
  assert.equal(verdict.kind, "slow");
});

Deno.test("the limit is twice the round trip where that is longer", () => {
  const [gaveUpAtMs] = new Watch().until(30_000, (nowMs) => ({
    ...deadSinceZero(nowMs),
    rttUs: 5_000_000,
  }));
  assert.ok(gaveUpAtMs > 10_000 && gaveUpAtMs <= 10_100, String(gaveUpAtMs));
});

Deno.test("our own pause is not the peer's silence: a stopped process, then a late write", () => {
  // The last acknowledgement is old because of an idle spell, the byte's age
  // because we were stopped between noting the time and the write itself.
  const watch = new Watch();
  watch.until(60_000, (nowMs) => ({ lastAckMs: nowMs }));
  const { giveUp, verdict } = watch.read({
    nowMs: 80_000,
    unackedBytes: 100,
    oldestUnackedMs: 20_000,
    lastAckMs: 80_000,
    unackedSegments: 1,
  });
  assert.equal(giveUp, false);
  assert.notEqual(verdict.kind, "path-dead");
});

Deno.test("a clock that jumps forth or back kills nothing, and does not stop the watch", () => {
  for (const jumpMs of [3_600_000, -3_600_000]) {
    const watch = new Watch();
    watch.read({ nowMs: 0, unackedBytes: 100, lastAckMs: 0, unackedSegments: 1 });
    watch.read({ nowMs: 50, unackedBytes: 100, oldestUnackedMs: 50, lastAckMs: 50 });
    const jumped = watch.read({
      nowMs: 50 + jumpMs,
      unackedBytes: 100,
      oldestUnackedMs: 50 + jumpMs,
      lastAckMs: 100,
    });
    assert.equal(jumped.giveUp, false);
    const [gaveUpAtMs] = watch.until(jumpMs + 10_000, (nowMs) => deadSinceZero(nowMs - jumpMs));
    assert.ok(gaveUpAtMs <= jumpMs + 3300, String(gaveUpAtMs));
  }
});

Deno.test("a loop blocked again and again still finds out, later", () => {
  const watch = new Watch();
  let gaveUpAtMs = Infinity;
  for (let nowMs = 0; nowMs < 60_000 && gaveUpAtMs === Infinity; nowMs += 800) {
    if (watch.read({ nowMs, ...deadSinceZero(nowMs) }).giveUp) gaveUpAtMs = nowMs;
  }
  assert.ok(gaveUpAtMs > 3000 && gaveUpAtMs < 15_000, String(gaveUpAtMs));
});

const CLOSED_WINDOW = {
  unackedBytes: 5000,
  unackedSegments: 0,
  notSentBytes: 5000,
  sendQueueBytes: 5000,
  sendWindowBytes: 0,
};

Deno.test("a closed window is a stalled peer, and has a limit of its own", () => {
  const [gaveUpAtMs, { verdict }] = new Watch().until(100_000, (nowMs) => ({
    ...CLOSED_WINDOW,
    oldestUnackedMs: nowMs,
    lastAckMs: nowMs % 1000, // every probe is answered
  }));
  assert.ok(gaveUpAtMs > 60_000 && gaveUpAtMs <= 60_200, String(gaveUpAtMs));
  assert.equal(verdict.kind, "peer-stalled");
});

Deno.test("a stall begins with the reading that shows it, and not with the one before", () => {
  const watch = new Watch();
  watch.read({ ...CLOSED_WINDOW, nowMs: 100, sendWindowBytes: 3000 });
  // It may have closed a moment ago.
  const closed = { ...CLOSED_WINDOW, bytesAcked: 3001 };
  const told = [900, 1000].map((nowMs) => watch.read({ ...closed, nowMs }).verdict);
  assert.deepEqual(told, [0, 100].map((stalledMs) => ({ kind: "peer-stalled", stalledMs })));
});

Deno.test("a remnant of a window smaller than a segment is a closed window", () => {
  const { verdict } = new Watch().read({ nowMs: 50, ...CLOSED_WINDOW, sendWindowBytes: 384 });
  assert.equal(verdict.kind, "peer-stalled");
});

Deno.test("without snd_wnd, the time limited by the window tells", () => {
  const watch = new Watch();
  const before54 = { ...CLOSED_WINDOW, sendWindowBytes: undefined } as const;
  watch.read({ nowMs: 50, ...before54, windowLimitedUs: 10_000 });
  assert.equal(
    watch.read({ nowMs: 100, ...before54, windowLimitedUs: 60_000 }).verdict.kind,
    "peer-stalled",
  );
  assert.equal(
    watch.read({ nowMs: 150, ...before54, windowLimitedUs: 60_000 }).verdict.kind,
    "healthy",
  );
});

Deno.test("without snd_wnd, two looks within a tick of the kernel are no open window", () => {
  const watch = new Watch();
  let stalledMs = 0;
  for (let nowMs = 50; nowMs < 8000; nowMs += nowMs % 25 === 0 ? 2 : 23) {
    const { verdict, giveUp } = watch.read({
      nowMs,
      ...CLOSED_WINDOW,
      sendWindowBytes: undefined,
      // What a kernel of 100 ticks a second counts; its probes are 4 s apart.
      windowLimitedUs: Math.floor(nowMs / 10) * 10_000,
      oldestUnackedMs: nowMs,
      lastAckMs: nowMs % 4000,
    });
    assert.equal(giveUp, false, `${nowMs} ms: ${verdict.kind}`);
    assert(verdict.kind === "peer-stalled", `${nowMs} ms: ${verdict.kind}`);
    assert.ok(verdict.stalledMs >= stalledMs, `${nowMs} ms: stalled for ${verdict.stalledMs} ms`);
    stalledMs = verdict.stalledMs;
  }
});

Deno.test("a closed window whose probes stay unanswered is a dead path", () => {
  const [gaveUpAtMs, { verdict }] = new Watch().until(60_000, (nowMs) => ({
    ...CLOSED_WINDOW,
    oldestUnackedMs: nowMs,
    lastAckMs: nowMs,
    probes: Math.floor(nowMs / 1000) + 1,
  }));
  assert.ok(gaveUpAtMs > 3000 && gaveUpAtMs <= 3100, String(gaveUpAtMs));
  assert.equal(verdict.kind, "path-dead");
});

Deno.test("who answers no probe is not said to answer, and who has answered is", () => {
  // As from a box that takes the connection with a closed window, and reaches no server.
  const told = (lastAckMs: (nowMs: number) => number, probes: (nowMs: number) => number) => {
    const watch = new Watch();
    const kinds = new Set<string>();
    for (let nowMs = 0; nowMs < 3000; nowMs += 50) {
      const { verdict, giveUp } = watch.read({
        ...{ nowMs, ...CLOSED_WINDOW, oldestUnackedMs: nowMs },
        ...{ lastAckMs: lastAckMs(nowMs), probes: probes(nowMs) },
      });
      assert.equal(giveUp, false);
      if (nowMs > 1000) kinds.add(verdict.kind);
    }
    return [...kinds];
  };
  assert.deepEqual(told((nowMs) => nowMs, (nowMs) => Math.ceil(nowMs / 450)), ["slow"]);
  // The last answer is 1.4 s old at the end.
  const heardUntil1600 = (nowMs: number) => nowMs < 1600 ? nowMs % 400 : nowMs - 1600;
  const probes = (nowMs: number) => nowMs < 1600 ? 1 : Math.ceil((nowMs - 1600) / 450);
  assert.deepEqual(told(heardUntil1600, probes), ["peer-stalled"]);
});

Deno.test("this host's fault is named early behind a closed window, too", () => {
  const localFault: LocalFault = { kind: "link-down", device: "eth0", words: "eth0 is down" };
  const watch = new Watch();
  for (let nowMs = 0; nowMs < 5000; nowMs += 50) {
    watch.read({ nowMs, ...CLOSED_WINDOW, oldestUnackedMs: nowMs, lastAckMs: nowMs % 1000 });
  }
  for (const silenceMs of [0, 100, 200]) watch.read(deaf(silenceMs));
  const { verdict, giveUp } = watch.read(deaf(300));
  assert.deepEqual([verdict.kind, giveUp], ["local-fault", false]);

  function deaf(ms: number): Reading {
    const nowMs = 5000 + ms;
    return {
      nowMs,
      ...CLOSED_WINDOW,
      oldestUnackedMs: nowMs,
      lastAckMs: ms,
      probes: 1,
      localFault,
    };
  }
});

Deno.test("a peer that takes its window back and does not read is stalled, not slow", () => {
  // What lies in flight beyond the window is sent again once a second, and refused.
  const takenBack = (nowMs: number) => ({
    ...CLOSED_WINDOW,
    unackedSegments: 1,
    notSentBytes: 1304,
    sendWindowBytes: 0,
    oldestUnackedMs: nowMs,
    lastAckMs: nowMs % 1000,
  });
  const watch = new Watch();
  for (let nowMs = 0; nowMs < 30_000; nowMs += 50) {
    const { verdict } = watch.read({ nowMs, ...takenBack(nowMs) });
    assert.equal(verdict.kind, "peer-stalled", `${nowMs} ms`);
  }
  const [gaveUpAtMs, { verdict }] = watch.until(90_000, takenBack);
  assert.ok(gaveUpAtMs > 60_000 && gaveUpAtMs <= 60_200, String(gaveUpAtMs));
  assert.equal(verdict.kind, "peer-stalled");

  const dead = new Watch();
  const [diedAtMs, end] = dead.until(9000, (nowMs) => ({
    ...{ ...takenBack(nowMs), lastAckMs: nowMs },
  }));
  assert.ok(diedAtMs > 3000 && diedAtMs <= 3100, String(diedAtMs));
  assert.equal(end.verdict.kind, "path-dead");
});

Deno.test("a slow reader's progress starts the stall anew", () => {
  const watch = new Watch();
  const [gaveUpAtMs] = watch.until(300_000, (nowMs) => ({
    ...CLOSED_WINDOW,
    oldestUnackedMs: 5000,
    lastAckMs: nowMs % 1000,
    bytesAcked: 1 + 1448 * Math.floor(nowMs / 12_700),
    progressed: nowMs % 12_700 < 50,
  }));
  assert.equal(gaveUpAtMs, Infinity);
});

Deno.test("this host's fault is named early and given up no earlier", () => {
  const localFault: LocalFault = { kind: "link-down", device: "eth0", words: "eth0 is down" };
  const watch = new Watch();
  let namedAtMs = Infinity;
  const [gaveUpAtMs, { verdict }] = watch.until(10_000, (nowMs) => {
    if (watch.memory.silenceMs >= 250) return { ...deadSinceZero(nowMs), localFault };
    return deadSinceZero(nowMs);
  });
  const second = new Watch();
  for (let nowMs = 0; namedAtMs === Infinity; nowMs += 50) {
    const { verdict } = second.read({ nowMs, ...deadSinceZero(nowMs), localFault });
    if (verdict.kind === "local-fault") namedAtMs = nowMs;
  }
  assert.ok(namedAtMs <= 500, String(namedAtMs));
  assert.ok(gaveUpAtMs > 3000 && gaveUpAtMs <= 3100, String(gaveUpAtMs));
  assert.equal(verdict.kind, "local-fault");
});

Deno.test("an idle connection dies by unanswered keepalive probes, not by quiet", () => {
  const quiet = new Watch().until(60_000, (nowMs) => ({ lastAckMs: nowMs % 10_000 }));
  assert.equal(quiet[0], Infinity);
  const [gaveUpAtMs] = new Watch().until(60_000, (nowMs) => ({
    lastAckMs: nowMs,
    probes: Math.max(0, Math.floor((nowMs - 7000) / 3000)),
  }));
  assert.ok(gaveUpAtMs > 19_000 && gaveUpAtMs <= 19_100, String(gaveUpAtMs));
});

Deno.test("what the network reported is a hint, never a verdict", () => {
  const watch = new Watch();
  const { giveUp } = watch.read({
    nowMs: 50,
    ...deadSinceZero(50),
    softError: "EHOSTUNREACH",
  });
  assert.equal(giveUp, false);
  const [, { verdict }] = watch.until(10_000, (nowMs) => ({
    ...deadSinceZero(nowMs),
    softError: "EHOSTUNREACH",
  }));
  assert.deepEqual({ ...verdict, silenceMs: 0 }, {
    kind: "path-dead",
    silenceMs: 0,
    hint: "EHOSTUNREACH",
  });
});

Deno.test("CLOSE_WAIT is told as the peer's close", () => {
  assert.equal(new Watch().read({ nowMs: 50, state: 8 }).verdict.kind, "peer-closed");
});

Deno.test("an errno names the death", () => {
  const kinds = ["ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED"]
    .map((code) => judgeDeath(code, 1000).kind);
  assert.deepEqual(kinds, [
    "reset",
    "reset",
    "timed-out",
    "path-dead",
    "path-dead",
    "path-dead",
  ]);
});

Deno.test("a closed window is a warning after a second, and news then", () => {
  const closed = (stalledMs: number): Verdict => ({ kind: "peer-stalled", stalledMs });
  assert.deepEqual([0, 999, 1000].map((ms) => levelOf(closed(ms))), ["debug", "debug", "warn"]);
  assert(isNews({ kind: "healthy" }, closed(0)));
  assert(!isNews(closed(0), closed(999)));
  assert(isNews(closed(999), closed(1000)));
  assert(!isNews(closed(1000), closed(2000)));
  assert(isNews(closed(0), { kind: "healthy" }));
});

Deno.test("every verdict has words, with a unit where there is a time", () => {
  const verdicts: Verdict[] = [
    { kind: "healthy" },
    { kind: "slow", oldestUnackedMs: 1500, silenceMs: 0 },
    { kind: "peer-stalled", stalledMs: 2000 },
    { kind: "path-dead", silenceMs: 3100, hint: "EHOSTUNREACH" },
    {
      kind: "local-fault",
      silenceMs: 300,
      fault: { kind: "carrier-lost", device: "eth0", words: "eth0 has lost its carrier" },
    },
    { kind: "peer-closed" },
    { kind: "reset", code: "ECONNRESET" },
    { kind: "timed-out", code: "ETIMEDOUT" },
  ];
  const words = verdicts.map(describeVerdict);
  assert.equal(new Set(words).size, verdicts.length);
  assert.match(words[3] ?? "", /3\.1 s .*EHOSTUNREACH/);
  assert.match(words[4] ?? "", /eth0 has lost its carrier/);
});

Deno.test("quiet vouches for nobody: only what the peer's kernel says does", () => {
  const watch = new Watch();
  watch.read({ nowMs: 1000, lastAckMs: 0 });
  watch.read({ nowMs: 1500, lastAckMs: 500 });
  assert.equal(vouchedUntilMs(watch.memory), 1000);
  watch.read({ nowMs: 2020, lastAckMs: 8 });
  assert.equal(vouchedUntilMs(watch.memory), 2012);
});

Deno.test("behind a shut window answers are no reading, and neither is what a probe pushes out", () => {
  const watch = new Watch();
  watch.read({ nowMs: 1000, bytesAcked: 10_000, sendWindowBytes: 5000 });
  // The window shrinks to a remnant: its right edge, at 15,000, stands still.
  watch.read({ nowMs: 1050, bytesAcked: 14_000, sendWindowBytes: 1000, progressed: true });
  assert.equal(vouchedUntilMs(watch.memory), 1000);
  // The persist timer pushes out the remnant, and the peer's kernel takes it.
  watch.read({ nowMs: 1300, bytesAcked: 15_000, sendWindowBytes: 0, progressed: true });
  watch.read({ nowMs: 9000, bytesAcked: 15_000, sendWindowBytes: 0 });
  // Our FIN is acknowledged: the kernel counts it as a byte, and it takes no room.
  watch.read({ nowMs: 9010, bytesAcked: 15_001, ackedBytes: 15_000, sendWindowBytes: 0 });
  assert.equal(vouchedUntilMs(watch.memory), 1000);
  const before = watch.memory;
  watch.read({ nowMs: 9050, bytesAcked: 15_000, sendWindowBytes: 500 });
  assert.equal(vouchedUntilMs(watch.memory), 9050);
  assert.equal(resumedReading(before, watch.memory, 1000), true);
  assert.equal(resumedReading(before, watch.memory, 60_000), false);
});

Deno.test("a slow reader whose window is always nearly shut is a reader", () => {
  const watch = new Watch();
  let before = watch.memory;
  for (let nowMs = 0; nowMs < 5000; nowMs += 50) {
    before = watch.memory;
    const bytesAcked = 1 + nowMs;
    watch.read({ nowMs, bytesAcked, sendWindowBytes: 700, progressed: true });
    assert.equal(resumedReading(before, watch.memory, 1000), false);
  }
  assert.equal(vouchedUntilMs(watch.memory), 4950);
});

Deno.test("before Linux 5.4, without the window, a whole segment through a closed one is reading", () => {
  const watch = new Watch();
  const closed = { sendWindowBytes: undefined, notSentBytes: 9000, windowLimitedUs: 0 };
  let limitedUs = 0;
  const read = (nowMs: number, bytesAcked: number) =>
    watch.read({ nowMs, bytesAcked, ...closed, windowLimitedUs: limitedUs += 50_000 });
  read(1000, 1);
  read(1050, 700);
  assert.equal(vouchedUntilMs(watch.memory), 0);
  read(1100, 2300);
  assert.equal(vouchedUntilMs(watch.memory), 1100);
});

Deno.test("a stall ends when the window's edge moves, not when a probe is answered", () => {
  const watch = new Watch();
  watch.limits = { ...LIMITS, peerStallTimeoutMs: 2000 };
  const closed = { notSentBytes: 9000, unackedBytes: 9000, oldestUnackedMs: 100 };
  watch.read({ nowMs: 0, bytesAcked: 14_000, sendWindowBytes: 1000, ...closed });
  const [atMs, { verdict }] = watch.until(10_000, (nowMs) => ({
    ...closed,
    // 10 bytes of the remnant each 50 ms.
    bytesAcked: 14_000 + nowMs / 5,
    sendWindowBytes: 1000 - nowMs / 5,
    progressed: true,
  }));
  assert.equal(verdict.kind, "peer-stalled");
  assert.ok(atMs <= 2150, String(atMs));
});

Deno.test("a peer that is asked and does not answer is dead after the stall timeout", () => {
  const watch = new Watch();
  watch.read({ nowMs: 0, asking: true });
  const [atMs, { verdict }] = watch.until(20_000, (nowMs) => ({
    asking: true,
    lastAckMs: nowMs,
    probes: Math.floor(nowMs / 1000),
  }));
  assert.equal(verdict.kind, "path-dead");
  assert.ok(atMs > 3000 && atMs <= 3100, String(atMs));
});

Deno.test("a peer that is asked is dead too where this host drops the questions uncounted", () => {
  for (
    const [stallTimeoutMs, rttUs, deadAfterMs] of [[3000, 100, 3000], [100, 200_000, 2400]] as const
  ) {
    const watch = new Watch();
    watch.limits = { ...LIMITS, stallTimeoutMs };
    watch.read({ nowMs: 0, asking: true });
    const [atMs, { verdict }] = watch.until(20_000, (nowMs) => ({
      asking: true,
      lastAckMs: nowMs,
      probes: 0,
      rttUs,
    }));
    assert.equal(verdict.kind, "path-dead");
    assert.ok(atMs > deadAfterMs && atMs <= deadAfterMs + 100, `${atMs}`);
  }
});

Deno.test("one question that is lost is no death, however short the stall timeout", () => {
  const watch = new Watch();
  watch.limits = { ...LIMITS, stallTimeoutMs: 100 };
  watch.read({ nowMs: 0, asking: true });
  // The kernel asks after 1028 and 2052 ms; on slower clocks after 1080 and 2160.
  for (let nowMs = 20; nowMs <= 2160; nowMs += 20) {
    const probes = Math.floor(nowMs / 1080);
    assert.equal(watch.read({ nowMs, asking: true, lastAckMs: nowMs, probes }).giveUp, false);
  }
  assert.equal(watch.read({ nowMs: 2180, asking: true, lastAckMs: 10 }).giveUp, false);
  assert.equal(watch.memory.askedMs, 0);
});

Deno.test("a pause of ours is no silence of a peer that is asked", () => {
  const watch = new Watch();
  const asking = true;
  watch.read({ nowMs: 0, asking });
  // Kernel and process stood still together: the question goes out only now.
  assert.equal(watch.read({ nowMs: 60_000, asking, lastAckMs: 60_000 }).giveUp, false);
  assert.equal(watch.read({ nowMs: 61_000, asking, lastAckMs: 61_000 }).giveUp, false);
  assert.equal(watch.read({ nowMs: 61_100, asking, lastAckMs: 50 }).giveUp, false);
  // What was not asked about, or stands behind bytes, is none of it.
  watch.read({ nowMs: 62_000, lastAckMs: 950 });
  for (let nowMs = 63_000; nowMs <= 66_000; nowMs += 1000) {
    assert.equal(watch.read({ nowMs, lastAckMs: nowMs - 61_050 }).giveUp, false);
  }
  assert.equal(watch.read({ nowMs: 66_100, asking, lastAckMs: 5050 }).giveUp, false);
});

Deno.test("a path that dies with packets unread: nobody says that the peer's kernel answers", () => {
  const watch = new Watch();
  const unread = { unreadPackets: 2, readOn: false, unackedBytes: 100 };
  for (let nowMs = 0; nowMs <= 200; nowMs += 100) watch.read({ nowMs, ...unread });
  for (let silentMs = 100; silentMs <= 3000; silentMs += 100) {
    const reading = { nowMs: 200 + silentMs, lastAckMs: silentMs, oldestUnackedMs: silentMs };
    const { verdict } = watch.read({ ...reading, ...unread });
    assert.equal(verdict.kind, silentMs > 1000 ? "slow" : "healthy", `${silentMs}`);
  }
  const dead = watch.read({ nowMs: 3300, lastAckMs: 3100, oldestUnackedMs: 3100, ...unread });
  assert.deepEqual([dead.verdict.kind, dead.giveUp], ["path-dead", true]);
});

Deno.test("a program that reads nothing is stalled although its window is open, by time we watched", () => {
  const watch = new Watch();
  const unread = { unreadPackets: 2, readOn: false };
  for (let nowMs = 0; nowMs <= 1000; nowMs += 250) {
    assert.equal(watch.read({ nowMs, ...unread }).verdict.kind, "healthy");
  }
  // Ten seconds of our own sleep count as one gap.
  const { verdict, giveUp } = watch.read({ nowMs: 11_000, ...unread });
  assert.deepEqual([verdict, giveUp], [{ kind: "peer-stalled", stalledMs: 1250 }, false]);
  assert.equal(watch.read({ nowMs: 11_100, ...unread, readOn: true }).verdict.kind, "healthy");
  for (let nowMs = 11_350; nowMs <= 71_100; nowMs += 250) watch.read({ nowMs, ...unread });
  assert.equal(watch.read({ nowMs: 71_350, ...unread }).giveUp, true);
  assert.equal(watch.read({ nowMs: 71_400, unreadPackets: 0 }).verdict.kind, "healthy");
  // Its FIN says more.
  watch.read({ nowMs: 71_500, ...unread });
  for (let nowMs = 71_750; nowMs <= 75_000; nowMs += 250) watch.read({ nowMs, ...unread });
  assert.equal(watch.read({ nowMs: 75_000, state: 8, ...unread }).verdict.kind, "peer-closed");
  // But nobody waits for such a program for ever.
  const [gaveUpAtMs, { verdict: last }] = watch.until(200_000, () => ({ state: 8, ...unread }));
  assert.deepEqual([gaveUpAtMs, last.kind], [131_550, "peer-stalled"]);
});

Deno.test("who has closed, and reads nothing of what is held, is given up; who reads on is not", () => {
  const shut = { state: 8, asking: true, sendWindowBytes: 0, lastAckMs: 10, sendQueueBytes: 0 };
  const watch = new Watch();
  const [gaveUpAtMs, { verdict }] = watch.until(200_000, () => shut);
  assert.equal(verdict.kind, "peer-stalled");
  assert.ok(gaveUpAtMs > 60_000 && gaveUpAtMs < 60_400, String(gaveUpAtMs));
  for (const other of [{ sendWindowBytes: 65_535 }, { asking: false }, { state: 1 }]) {
    const waiting = new Watch();
    for (let nowMs = 0; nowMs < 70_000; nowMs += 250) {
      assert.equal(waiting.read({ nowMs, ...shut, ...other }).giveUp, false);
    }
  }
});
