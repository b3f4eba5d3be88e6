/**
 * Faults planted into copies of the delivery code, to see whether the
 * simulation finds them. Each is a patch of its text: the shipped code carries
 * no switches, and a patch that no longer applies is an error.
 *
 * @module
 */

import { runSeeds } from "./pool.ts";

/** A fault to plant. */
export interface Planted {
  readonly name: string;
  readonly file: string;
  /**
   * What runs the worlds in which it shows.
   *
   * @default {"worker.ts"}
   */
  readonly worker?: string;
  /** Pairs of what stands there, exactly once, and what to put in its place. */
  readonly patches: readonly (readonly [string, string])[];
}

const CONNECTION = "src/delivery/connection.ts";
const CROSS_CHECK = "src/delivery/cross_check.ts";
const LEDGER = "src/delivery/ledger.ts";
const LIVENESS = "src/delivery/liveness.ts";
const WINDOW = "src/delivery/send_window.ts";
const SUSPECTS = "src/delivery/suspects.ts";
const HOLD = "src/delivery/hold.ts";
const SUPERVISOR = "src/delivery/supervisor.ts";
const BACKOFF = "src/delivery/backoff.ts";
const ROW = "src/queue/store/row.ts";
const LOG_ROOM = "src/queue/sqlite/log_room.ts";
const PACKET_TABLE = "src/queue/store/packet_table.ts";
const GUARDED_STORE = "src/queue/guarded_store.ts";
const DEAD_LETTER_TABLE = "src/queue/store/dead_letter_table.ts";
const OUTGOING = "src/delivery/outgoing.ts";
const ATTEMPT = "src/delivery/attempt.ts";
const CANDIDATE = "src/failover/failover_dialer.ts";
const REFUSAL_PAUSES = "src/delivery/backoff.ts";
const HEARTBEATS = "src/delivery/heartbeats.ts";
const OPEN = "src/session/open.ts";
const ANSWERS = "src/delivery/answers.ts";
const READS = "src/delivery/reads.ts";
const ARRIVALS = "src/kernel/arrivals.ts";

/** All of them. */
export const PLANTED: readonly Planted[] = [
  {
    name: "give a batch's memory back with its first packets",
    file: WINDOW,
    patches: [[
      "? sliceBatch(stored, 0, packets)",
      "? { ...sliceBatch(stored, 0, packets), ...(stored.ownsMemory && { ownsMemory: true }) }",
    ]],
  },
  {
    name: "delete when written",
    file: LEDGER,
    patches: [[
      "const acked = Math.min(ackedBytes, this.#writtenBytes);",
      "void ackedBytes;\n    const acked = this.#writtenBytes;",
    ]],
  },
  {
    name: "forget the SYN in the base",
    file: CONNECTION,
    patches: [
      ["this.#baseBytes = this.#sample.bytesAcked;", "this.#baseBytes = 0;"],
      ["if (!comparable) return;", "if (comparable) return;"],
    ],
  },
  {
    name: "treat zero window as death",
    file: LIVENESS,
    patches: [[
      "if (windowClosed && !isMute) return",
      "if (windowClosed && stalledMs > limits.stallTimeoutMs) {\n" +
      "    return silent(silenceMs, evidence);\n  }\n" +
      "  if (windowClosed && !isMute) return",
    ]],
  },
  {
    name: "forget the round trip in the limit",
    file: LIVENESS,
    patches: [[
      "Math.max(limits.stallTimeoutMs, 2 * rttMs)",
      "limits.stallTimeoutMs",
    ]],
  },
  {
    name: "count our own pause as silence",
    file: LIVENESS,
    patches: [["const countedMs = watchedOf(gapMs);", "const countedMs = Math.max(gapMs, 0);"]],
  },
  {
    name: "count our own pause as the time of who owes an answer",
    file: LIVENESS,
    patches: [["watchedOf(clockMs - this.#clockMs)", "Math.max(clockMs - this.#clockMs, 0)"]],
  },
  {
    name: "never reset offsets on reconnect",
    file: CONNECTION,
    patches: [
      [
        "this.#ledger = new Ledger(options.afterId);",
        "this.#ledger = ledgers.get(options.clock) ?? new Ledger(options.afterId);\n" +
        "    ledgers.set(options.clock, this.#ledger);",
      ],
      [
        "/** One established connection. */\n",
        "const ledgers = new WeakMap<Clock, Ledger>();\n/** One established connection. */\n",
      ],
    ],
  },
  {
    name: "the hold of a connection goes on with the next",
    file: CONNECTION,
    patches: [
      [
        "(this.#hold = new Hold(limits.holdMs));",
        "(this.#hold = holdOf.get(options.clock) ?? new Hold(limits.holdMs));\n" +
        "    if (this.#hold) holdOf.set(options.clock, this.#hold);",
      ],
      [
        "/** One established connection. */\n",
        "const holdOf = new WeakMap<Clock, Hold>();\n/** One established connection. */\n",
      ],
    ],
  },
  {
    name: "what a connection has confirmed is forgotten with it",
    file: SUPERVISOR,
    patches: [["      this.#confirmedBefore += before.confirmation.confirmedPackets;\n", ""]],
  },
  {
    name: "keep what was read ahead on reconnect",
    file: WINDOW,
    patches: [["    this.#ahead = [];\n    this.#drainedId", "    this.#drainedId"]],
  },
  {
    name: "resend from what was drained",
    file: WINDOW,
    patches: [[
      "    this.#drainedId = this.#confirmedId;\n    this.#assignedId = this.#confirmedId;\n",
      "    this.#assignedId = this.#drainedId;\n    this.#drainedId = this.#confirmedId;\n",
    ]],
  },
  {
    name: "resend one packet too late",
    file: WINDOW,
    patches: [[
      "    this.#assignedId = this.#confirmedId;\n    this.#assertOrder();\n  }",
      "    this.#assignedId = Math.min(this.#assignedId, this.#confirmedId + 1);\n  }",
    ]],
  },
  {
    name: "send what has expired",
    file: WINDOW,
    patches: [["if (this.#isExpired(stored)) {", "if (this.#isExpired(stored) && nowMs < 0) {"]],
  },
  {
    name: "what waits for an answer does not expire",
    file: WINDOW,
    patches: [[
      "if (this.#isExpired(stored)) {",
      "if (this.#isExpired(stored) && this.#transformer === undefined) {",
    ]],
  },
  {
    name: "what this side has ended accuses packets",
    file: SUPERVISOR,
    patches: [['"local-fault" && !endedHere && !refused', '"local-fault" && !refused']],
  },
  {
    name: "what is only held is never suspected",
    file: WINDOW,
    patches: [[
      "!connection.carriesPackets && connection.confirmation.heldPackets === 0",
      "!connection.carriesPackets",
    ]],
  },
  {
    name: "give up whoever was last",
    file: SUSPECTS,
    patches: [["if (packets === 1 && attempts >= needed) {", "if (attempts >= needed) {"]],
  },
  {
    name: "never halve the suspects",
    file: WINDOW,
    patches: [["Math.max(onTrial, unconfirmed === 0 ? 1 : 0),", "Math.max(onTrial, Infinity),"]],
  },
  {
    name: "wait for a pace that nobody wakes",
    file: WINDOW,
    patches: [[
      "      later(this.#paceReadyAtMs, nowMs),\n",
      "",
    ]],
  },
  {
    name: "partial write ignored",
    file: OUTGOING,
    patches: [["offset += takenBytes;", "offset = chunk.length;"]],
  },
  {
    name: "ack past a partial packet",
    file: LEDGER,
    patches: [["this.#packetEnds.firstKey <= acked)", "this.#packetEnds.firstKey < acked + 8)"]],
  },
  {
    name: "close instead of abort",
    file: CONNECTION,
    patches: [["else this.#wire.abort();", "else this.#wire.close();"]],
  },
  {
    name: "what is held is not counted among what waits",
    file: CONNECTION,
    patches: [["this.inFlightPackets + this.confirmation.heldPackets", "this.inFlightPackets"]],
  },
  {
    name: "an orderly end before what comes again",
    file: CONNECTION,
    patches: [["&& this.openPackets === 0) this.#wire.close();", ") this.#wire.close();"]],
  },
  {
    name: "nobody watches a write that waits",
    file: OUTGOING,
    patches: [["if (wasIdle) onWritten();", "void wasIdle;"]],
  },
  {
    name: "lost wake-up by new packets",
    file: SUPERVISOR,
    patches: [["queue.subscribe(wake, wake);", "queue.subscribe(() => {}, wake);"]],
  },
  {
    name: "lost wake-up by a new connection",
    file: ATTEMPT,
    patches: [["    }).finally(options.onNews);\n", "    });\n"]],
  },
  {
    name: "backoff never reset",
    file: BACKOFF,
    patches: [["  reset(): void {\n    this.#failures = 0;\n", "  reset(): void {\n"]],
  },
  {
    name: "delete without holding",
    file: HOLD,
    patches: [["if (this.#endsAtMs(held) > vouchedUntilMs) break;", "void vouchedUntilMs;"]],
  },
  {
    name: "hold from the first of a group",
    file: HOLD,
    patches: [["      last.sinceMs = Math.max(last.sinceMs, sinceMs);\n", ""]],
  },
  {
    name: "hold half as long",
    file: HOLD,
    patches: [["Math.max(0, this.#holdMs - HOLD_GRAIN_MS)", "this.#holdMs / 2"]],
  },
  {
    name: "a stall does not start the hold anew",
    file: HOLD,
    patches: [[
      "for (const held of this.#held) held.sinceMs = Math.max(held.sinceMs, sinceMs);",
      "void sinceMs;",
    ]],
  },
  {
    name: "quiet counts as a sign of life",
    file: LIVENESS,
    patches: [[
      "aliveAtMs: Math.max(memory.aliveAtMs, nowMs - sample.lastAckMs),",
      "aliveAtMs: outstanding ? Math.max(memory.aliveAtMs, nowMs - sample.lastAckMs) : nowMs,",
    ]],
  },
  {
    name: "silence counts as a sign of life",
    file: LIVENESS,
    patches: [[
      "aliveAtMs: Math.max(memory.aliveAtMs, nowMs - sample.lastAckMs),",
      "aliveAtMs: nowMs,",
    ]],
  },
  {
    name: "what a probe pushes out counts as reading",
    file: LIVENESS,
    patches: [[": edge > memory.windowEdge;", ": progressed || edge > memory.windowEdge;"]],
  },
  {
    name: "a shut window with nothing to send is not looked at",
    file: LIVENESS,
    patches: [[
      "const windowShut = windowClosed || (sample.sendWindowBytes ?? Infinity) < sample.sendMssBytes;",
      "const windowShut = windowClosed;",
    ]],
  },
  {
    name: "a closed window is not looked at",
    file: LIVENESS,
    patches: [[
      "return Math.min(aliveAtMs, readingAtMs);",
      "void readingAtMs;\n  return aliveAtMs;",
    ]],
  },
  {
    name: "nobody asks a quiet peer",
    file: CONNECTION,
    patches: [["    this.#wire.askPeer(asking);\n", ""]],
  },
  {
    name: "the peer is vouched for behind its FIN",
    file: CONNECTION,
    patches: [[
      "this.#vouchedBeforeFinMs ??= vouchedUntilMs(before);",
      "void finHere;",
    ]],
  },
  {
    name: "the FIN's own segment is a sign of life",
    file: CONNECTION,
    patches: [["??= vouchedUntilMs(before);", "??= vouchedUntilMs(this.#memory);"]],
  },
  {
    name: "an orderly end confirms what has drained",
    file: CONNECTION,
    patches: [[
      "          this.#peerClosed = true;\n",
      "          this.#peerClosed = true;\n          this.#hold?.confirm(Infinity);\n",
    ]],
  },
  {
    name: "a dead connection confirms",
    file: CONNECTION,
    patches: [[
      "  #over(verdict: Verdict, progressed: boolean): ConnectionReading {\n",
      "  #over(verdict: Verdict, progressed: boolean): ConnectionReading {\n" +
      "    this.#hold?.confirm(this.#clock.nowMs());\n",
    ]],
  },
  {
    name: "a wire that fails while TCP lives is kept",
    file: CONNECTION,
    patches: [[
      "    if (this.#failure !== undefined) {\n      const code = this.#failure;",
      "    if (false) {\n      const code = String(this.#failure);",
    ]],
  },
  {
    name: "counters that contradict each other are waited for",
    file: CROSS_CHECK,
    patches: [["return this.#difference.lasts(nowMs);", "return nowMs === Infinity;"]],
  },
  {
    name: "a reading stays good whatever is under way",
    file: CONNECTION,
    patches: [
      ["this.#good === undefined || this.inFlightBytes > 0", "this.#good === undefined"],
      ["nowMs - atMs >= READING_GOOD_MS", "nowMs - atMs >= 3_600_000"],
      ["if (pollInMs <= 0 ||", "if ("],
    ],
  },
  {
    name: "an acknowledgement resets the backoff",
    file: SUPERVISOR,
    patches: [[
      "    if (this.#window.take(connection)) {",
      "    if (reading.progressed) this.#backoff.reset();\n" +
      "    if (this.#window.take(connection)) {",
    ]],
  },
  {
    name: "fruitless connections carry the whole window",
    file: SUSPECTS,
    patches: [[
      "const suspected = this.#breaks.filter((id) => id > confirmedId);",
      "const suspected: number[] = [];",
    ]],
  },
  {
    name: "the look-up uses up the connect's time",
    file: ATTEMPT,
    patches: [[
      "this.#phaseLimitMs = options.lookUpTimeoutMs;",
      "this.#phaseLimitMs = options.connectTimeoutMs;",
    ]],
  },
  {
    name: "remove one packet too many",
    file: WINDOW,
    patches: [["this.#queue.removeThrough(throughId)", "this.#queue.removeThrough(throughId + 1)"]],
  },
  {
    name: "what is read is not compared with its checksum",
    file: ROW,
    patches: [["if (crc === null || Number(crc) ===", "if (crc !== undefined || Number(crc) ==="]],
  },
  {
    name: "a damaged row is thrown away",
    file: PACKET_TABLE,
    patches: [[
      "for (const packet of rest) each(packet, time);",
      "void each;",
    ]],
  },
  {
    name: "damaged dead letters are put back",
    file: DEAD_LETTER_TABLE,
    patches: [['letters.filter(({ reason }) => reason !== "damaged");', "letters;"]],
  },
  {
    name: "packets are stored without room to move the log",
    file: LOG_ROOM,
    patches: [[
      "if (growthBytes > mostBytes) {",
      "if (growthBytes < 0) {",
    ]],
  },
  {
    name: "a removal on a full disk waits for room",
    file: GUARDED_STORE,
    patches: [[
      "      if (!mayBeFull(error)) throw error;\n      if (this.#spare",
      "      throw error;\n      if (this.#spare",
    ]],
  },
  {
    name: "packets behind a login that is under way",
    file: OPEN,
    patches: [[
      "      await acknowledged(wire, said, clock, (ms) => stream.pause(ms, what));\n",
      "",
    ]],
  },
  {
    name: "the base is read before the login",
    file: CONNECTION,
    patches: [["this.#baseBytes = this.#sample.bytesAcked;", "this.#baseBytes = 1;"]],
  },
  {
    name: "the login's answer is not waited for",
    file: OPEN,
    patches: [["if (expect === undefined) continue;", "if (expect !== timeoutMs) continue;"]],
  },
  {
    name: "a refusal is tried again like a failed connect",
    file: SUPERVISOR,
    patches: [[
      "nowMs + this.#refusalPauses.ofSessions.nextDelayMs()",
      "nowMs + this.#backoff.nextDelayMs()",
    ]],
  },
  {
    name: "one server's refusal keeps the others waiting",
    file: REFUSAL_PAUSES,
    patches: [["if (this.#choice === undefined) return", "if (this.#choice !== null) return"]],
  },
  {
    name: "a server that has refused is asked again at once",
    file: CANDIDATE,
    patches: [["= nowMs + pauseMs(this.refusals++);", "= nowMs - pauseMs(this.refusals++);"]],
  },
  {
    name: "a refusal accuses packets",
    file: SUPERVISOR,
    patches: [[
      '    const untilMs = verdict?.kind === "session-refused"\n',
      '    if (verdict?.kind === "session-refused") {\n' +
      "      this.#window.suspect({ unconfirmedPackets: 1, carriesPackets: true } as Connection);\n" +
      "    }\n" +
      '    const untilMs = verdict?.kind === "session-refused"\n',
    ]],
  },
  {
    name: "a heartbeat between the bytes of a packet",
    file: OUTGOING,
    patches: [[
      "          offset += takenBytes;\n",
      "          offset += takenBytes;\n" +
      "          const beat = this.#options.heartbeats?.bytes;\n" +
      "          if (beat !== undefined && offset < chunk.length) await wire.write(beat);\n",
    ]],
  },
  {
    name: "a heartbeat counts as a packet",
    file: LEDGER,
    patches: [[
      "    this.#insertedEnd = this.#assignedBytes;\n",
      "    this.#insertedEnd = this.#assignedBytes;\n" +
      "    this.#packetEnds.push(this.#assignedBytes, this.#drainedThroughId + 1);\n",
    ]],
  },
  {
    name: "a heartbeat among packets under way",
    file: OUTGOING,
    patches: [["    if (ledger.inFlightBytes > 0) return Infinity;\n", ""]],
  },
  {
    name: "a heartbeat's answer is not waited for",
    file: HEARTBEATS,
    patches: [["    this.debt.sinceMs = watchedMs;\n", ""]],
  },
  {
    name: "a heartbeat that nobody answers ends nothing",
    file: HEARTBEATS,
    patches: [["new Debt(plan.answerTimeoutMs)", "new Debt(Infinity)"]],
  },
  {
    name: "packets while a heartbeat waits for its answer",
    file: WINDOW,
    patches: [["const mustWait = connection.awaitsHeartbeat;", "const mustWait = false;"]],
  },
  {
    name: "a heartbeat's answer is a packet's",
    file: CONNECTION,
    patches: [["this.#ledger.assignedBytes), toHeartbeat);", "this.#ledger.assignedBytes));"]],
  },
  {
    name: "nobody wakes for a heartbeat",
    file: SUPERVISOR,
    patches: [[
      "const inMs = Math.min(reading.pollInMs, connection.beat());",
      "connection.beat();\n      const inMs = reading.pollInMs;",
    ]],
  },
  {
    name: "a connection without a reader is looked at as if it had one",
    file: CONNECTION,
    patches: [["waits: !this.#reading || this.#asking", "waits: this.#asking"]],
  },
  {
    name: "a heartbeat before the next packet's turn",
    file: SUPERVISOR,
    patches: [[
      "    this.#window.topUp(connection, nowMs);\n    const inOrder",
      "    connection.beat();\n    this.#window.topUp(connection, nowMs);\n    const inOrder",
    ]],
  },
  {
    name: "a goodbye on a connection that is given up",
    file: CONNECTION,
    patches: [["    this.#outgoing.drop();\n", "    this.#outgoing.finish(true);\n"]],
  },
  {
    name: "a goodbye before everything is confirmed",
    file: SUPERVISOR,
    patches: [["connection.finish(inOrder);", "connection.finish(true);"]],
  },
  {
    name: "our FIN without the goodbye",
    file: OUTGOING,
    patches: [["this.#insert(goodbye);", "void goodbye;"]],
  },
  {
    name: "the next separate packet before the acknowledgement",
    file: WINDOW,
    patches: [["if (this.#limits.session?.separate && inFlightBytes > 0) return 0;", ""]],
  },
  {
    name: "an answer confirms whichever packet is next",
    file: ANSWERS,
    patches: [["      if (open.key === key) {\n", "      if (open.key !== undefined) {\n"]],
  },
  {
    name: "an answer out of turn confirms those before it",
    file: ANSWERS,
    patches: [[
      'if (packet.state !== "accepted" && packet.state !== "buried") break;',
      'if (!this.#packets.slice(this.#head).some(({ state }) => state === "accepted")) break;',
    ]],
  },
  {
    name: "an answer before the last byte counts",
    file: ANSWERS,
    patches: [
      [
        "if (open.length >= count || packet.end > ackedBytes) break;",
        "if (open.length >= count) break;",
      ],
      ["if (packet.end > ackedBytes) {", "if (packet.end < 0) {"],
    ],
  },
  {
    name: "no time-out for answers",
    file: ANSWERS,
    patches: [["new Debt(plan.answerTimeoutMs)", "new Debt(Infinity)"]],
  },
  {
    name: "a refused packet is removed",
    file: ANSWERS,
    patches: [[
      'if (judgement.kind !== "refused") packet.state = "accepted";',
      'if (judgement.kind !== "refused" || packet.key !== undefined) packet.state = "accepted";',
    ]],
  },
  {
    name: "a refused packet is sent again for ever",
    file: ANSWERS,
    patches: [['if (this.#plan.onRefused === "dead-letter") packet', "if (this.#ended) packet"]],
  },
  {
    name: "answers of a connection count on the next",
    file: CONNECTION,
    patches: [
      [
        "this.answers = limits.answers && new Answers(limits.answers, wire.remoteAddress);",
        "this.answers = limits.answers &&\n" +
        "      (answersOf.get(options.clock) ?? new Answers(limits.answers, wire.remoteAddress));\n" +
        "    if (this.answers) answersOf.set(options.clock, this.answers);",
      ],
      [
        "/** One established connection. */\n",
        "const answersOf = new WeakMap<Clock, Answers>();\n/** One established connection. */\n",
      ],
    ],
  },
  {
    name: "the kernel's acknowledgement confirms beside answers",
    file: WINDOW,
    patches: [[
      "if (isNew) this.#confirmedId = confirmedThroughId;",
      "if (isNew || answers !== undefined) this.#confirmedId = this.#drainedId;",
    ]],
  },
  {
    name: "a refused packet is passed before its dead letter is on disk",
    file: WINDOW,
    patches: [[
      "        await this.#queue.refuse(id, words);\n        answers.buried(id);",
      "        answers.buried(id);\n        await this.#queue.refuse(id, words);",
    ]],
  },
  {
    name: "more packets than may wait for an answer",
    file: WINDOW,
    patches: [["      (this.#limits.answers?.maxUnanswered ?? Infinity) - unconfirmed,\n", ""]],
  },
  {
    name: "drained() without answers",
    file: WINDOW,
    patches: [[
      'const byKernel = confirmedBy(this.#limits) === "kernel";',
      "const byKernel = true;",
    ]],
  },
  {
    name: "nobody looks whether the program has read on",
    file: READS,
    patches: [["return this.heldPackets > 0 ? READ_ON_POLL_MS : Infinity;", "return Infinity;"]],
  },
  {
    name: "an acknowledgement taken for reading",
    file: CONNECTION,
    patches: [[
      "Math.min(readBytes - this.#baseBytes, this.#ledger.ackedBytes)",
      "readBytes === 0 ? 0 : this.#ledger.ackedBytes",
    ]],
  },
  {
    name: "what is read counted from the first byte of the connection",
    file: CONNECTION,
    patches: [[
      "Math.min(readBytes - this.#baseBytes, this.#ledger.ackedBytes)",
      "Math.min(readBytes, this.#ledger.ackedBytes)",
    ]],
  },
  {
    name: "a packet is read by its first byte",
    file: READS,
    patches: [
      [
        "while (this.#packetEnds.length > 0 && this.#packetEnds.firstKey <= readBytes) {",
        "while (this.#begun(readBytes)) {",
      ],
      [
        "  /**\n   * Takes over a reading.",
        "  #lastEnd = 0;\n  #begun(readBytes: number): boolean {\n" +
        "    const begun = this.#packetEnds.length > 0 && this.#lastEnd < readBytes;\n" +
        "    if (begun) this.#lastEnd = this.#packetEnds.firstKey;\n    return begun;\n  }\n\n" +
        "  /**\n   * Takes over a reading.",
      ],
    ],
  },
  {
    name: "a program that reads nothing is not noticed",
    file: LIVENESS,
    patches: [[
      "memory.unread && answers ?",
      "memory.unread && stalledMs === -1 ?",
    ]],
  },
  {
    name: "the connection in use stays when the server connects anew",
    file: ARRIVALS,
    patches: [["    this.#inUse?.replace();\n", ""]],
  },
  {
    name: "a connection that has ended refuses further ones",
    file: ARRIVALS,
    patches: [["if (this.#inUse === connection) this.#inUse = undefined;", "void connection;"]],
  },
  {
    name: "a connection that nobody waits for yet is forgotten",
    file: ARRIVALS,
    patches: [[
      "    this.#onArrival();\n  }",
      "    this.#onArrival();\n    this.#waiting = undefined;\n  }",
    ]],
  },
];

/** What became of a planted fault. */
export interface Catch {
  readonly name: string;
  /** How many seeds it took; undefined: not found. */
  readonly seeds: number | undefined;
  readonly seed: number | undefined;
  readonly violation: string | undefined;
}

/** Plants one fault into a copy of the tree and looks for it. */
export async function hunt(
  planted: Planted,
  options: { readonly fromSeed: number; readonly maxSeeds: number; readonly workers: number },
): Promise<Catch> {
  const root = new URL("../", import.meta.url);
  const copy = await Deno.makeTempDir({ prefix: "sendq-planted-" });
  try {
    await copyTree(root, "src", copy);
    await copyTree(root, "simulation", copy);
    await plant(planted, copy);
    let seeds = 0;
    let found: { readonly seed: number; readonly violation: string } | undefined;
    await runSeeds({
      workerUrl: new URL(`file://${copy}/simulation/${planted.worker ?? "worker.ts"}`),
      fromSeed: options.fromSeed,
      count: options.maxSeeds,
      workers: options.workers,
      onResult: ({ seed, violation }) => {
        seeds++;
        if (violation !== undefined) found ??= { seed, violation };
        return violation === undefined;
      },
    });
    return {
      name: planted.name,
      seeds: found === undefined ? undefined : seeds,
      seed: found?.seed,
      violation: found?.violation,
    };
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
}

/**
 * Applies a fault's patches in the tree at `directory`.
 *
 * @throws {Error} A patch does not fit any more.
 */
export async function plant({ name, file, patches }: Planted, directory: string): Promise<void> {
  const path = `${directory}/${file}`;
  let text = await Deno.readTextFile(path);
  for (const [before, after] of patches) {
    const times = text.split(before).length - 1;
    if (times !== 1) {
      throw new Error(
        `Planted fault "${name}" does not fit ${file} any more: its text stands there ${times} ` +
          `times, not once. Write the patch anew.`,
      );
    }
    text = text.replace(before, () => after);
  }
  await Deno.writeTextFile(path, text);
}

async function copyTree(root: URL, folder: string, target: string): Promise<void> {
  await Deno.mkdir(`${target}/${folder}`, { recursive: true });
  for await (const { name, isFile, isDirectory } of Deno.readDir(new URL(`${folder}/`, root))) {
    if (isDirectory) await copyTree(root, `${folder}/${name}`, target);
    else if (isFile) {
      await Deno.copyFile(new URL(`${folder}/${name}`, root), `${target}/${folder}/${name}`);
    }
  }
}
