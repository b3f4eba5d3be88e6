/**
 * The answers of one connection: which of its packets the server has accepted or refused.
 * Pure bookkeeping; time, which is watched time, and acknowledgements come in as arguments.
 *
 * Example, stop and wait: packet 7 is sent and acknowledged, and `OK` comes. It is about
 * packet 7, which may be removed; packet 8 goes out. Had `OK` come before the last byte of
 * packet 7 was acknowledged, it would be about something else, and the connection would
 * be given up, for nobody knows any more which packet the next answer is about.
 *
 * Invariants:
 * 1. An answer is only ever about packets of its own connection, whose last byte was
 *    acknowledged when the answer was read.
 * 2. A packet is answered once; what comes for it later is about no packet.
 * 3. What is answered counts from the first packet on without a gap: one that is accepted
 *    out of turn waits for those before it.
 * 4. A refused packet is in the way until somebody has made a dead letter of it.
 * 5. After an answer that cannot be, and after a refusal that ends the connection, no
 *    further one counts.
 * 6. What the server begins to say while a heartbeat waits for its answer is about no packet:
 *    none is under way then.
 */

import { messageOf } from "../base/errors.ts";
import {
  type AnswerCutter,
  type AnswerKey,
  type AnswerPlan,
  type Judgement,
  wordsOf,
} from "../session/answers.ts";
import { quote } from "../session/pattern.ts";
import type { OutgoingBatch } from "../session/transform.ts";
import type { Confirmation } from "./confirmation.ts";
import { Debt } from "./owed.ts";

/** A packet that is not confirmed. */
interface Waiting {
  readonly id: number;
  /** Where its last byte ends in the connection's stream. */
  readonly end: number;
  readonly key: AnswerKey | undefined;
  state: "waiting" | "accepted" | "refused" | "buried";
  words: string;
}

interface Heard {
  readonly chunk: Uint8Array;
  /** How many bytes of the stream were acknowledged by then. */
  readonly ackedBytes: number;
  /** How many of its first bytes were said to a heartbeat. */
  readonly toHeartbeat: number;
}

/** A packet that the server does not want. */
export interface Refusal {
  readonly id: number;
  /** What the server said, fit for a log. */
  readonly words: string;
}

export class Answers implements Confirmation {
  readonly #plan: AnswerPlan;
  readonly #remoteAddress: string;
  readonly #cutter: AnswerCutter;
  /** In the order in which they were sent; those before `#head` are answered. */
  #packets: Waiting[] = [];
  #head = 0;
  /** How many of them are neither accepted nor refused. */
  #waiting = 0;
  #ackedBytes = 0;
  readonly #heard: Heard[] = [];
  /** What has begun and is not whole belongs to a heartbeat. */
  #isOfHeartbeat = false;
  #ended = false;
  #confirmedThroughId = 0;
  #confirmedPackets = 0;
  #fault: string | undefined;
  #refusal: Refusal | undefined;
  #unknown: string | undefined;
  /** The answer to the first packet that waits, once it is acknowledged. */
  readonly debt: Debt;

  constructor(plan: AnswerPlan, remoteAddress: string) {
    this.#plan = plan;
    this.#remoteAddress = remoteAddress;
    this.#cutter = plan.cutter();
    this.debt = new Debt(plan.answerTimeoutMs);
  }

  /** Every packet of this connection up to this one is accepted, or a dead letter; 0: none is. */
  get confirmedThroughId(): number {
    return this.#confirmedThroughId;
  }

  get confirmedPackets(): number {
    return this.#confirmedPackets;
  }

  get openPackets(): number {
    return this.#packets.length - this.#head;
  }

  get heldPackets(): number {
    let low = this.#head, high = this.#packets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#packets[middle]?.end ?? Infinity) <= this.#ackedBytes) low = middle + 1;
      else high = middle;
    }
    return low - this.#head;
  }

  /** Whatever the server says wakes the loop. */
  dueInMs(): number {
    return Infinity;
  }

  /** Whether no further answer counts. */
  get isOver(): boolean {
    return this.#ended;
  }

  /** Why no further answer counts, in words: one has come that cannot be. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** The refusal that ends this connection, where refusals do. */
  get refusal(): Refusal | undefined {
    return this.#refusal;
  }

  /** Refused packets of which a dead letter has to be made. */
  get toBury(): readonly Refusal[] {
    return this.#packets.slice(this.#head).filter(({ state }) => state === "refused");
  }

  /** An answer with a key that no packet has, in words; each is given once. */
  takeUnknown(): string | undefined {
    const words = this.#unknown;
    this.#unknown = undefined;
    return words;
  }

  /** Packets go out, in order, from this place in the stream on. */
  assigned(batches: readonly OutgoingBatch[], startBytes: number): void {
    const { keyOf } = this.#plan;
    let before = startBytes;
    for (const { firstId, bytes, ends, key: known } of batches) {
      let start = 0;
      for (const [i, end] of ends.entries()) {
        const key = known ?? keyOf?.(bytes.subarray(start, end));
        const id = firstId + i;
        this.#packets.push({ id, end: before + end, key, state: "waiting", words: "" });
        this.#waiting++;
        start = end;
      }
      before += bytes.length;
    }
  }

  /** The server has said something; `chunk` is the user's, too. */
  heard(chunk: Uint8Array, ackedBytes: number, toHeartbeat = 0): void {
    if (!this.isOver) this.#heard.push({ chunk: chunk.slice(), ackedBytes, toHeartbeat });
  }

  /** Nothing waits any more, or nobody listens: nothing more is an answer. */
  finish(): void {
    this.#ended = true;
    this.#heard.length = 0;
  }

  /**
   * Takes over what was heard.
   *
   * @param ackedBytes By the ledger, which may hear of a write later than of its answer: the
   *   answer then waits.
   */
  settle(ackedBytes: number, watchedMs: number): void {
    let next = this.#heard[0];
    while (next !== undefined && next.ackedBytes <= ackedBytes && !this.#ended) {
      this.#heard.shift();
      this.#take(next);
      next = this.#heard[0];
    }
    this.#ackedBytes = ackedBytes;
    const first = this.#waiting === 0 ? undefined : this.#open().next().value;
    if (first === undefined || first.end > ackedBytes) this.debt.sinceMs = undefined;
    else this.debt.sinceMs ??= watchedMs;
  }

  /** A dead letter was made of a refused packet. */
  buried(id: number): void {
    const packet = this.#packets.find((packet) => packet.id === id && packet.state === "refused");
    if (packet !== undefined) packet.state = "buried";
    this.#advance();
  }

  #take({ chunk, ackedBytes, toHeartbeat }: Heard): void {
    if (toHeartbeat > 0) {
      this.#cutter.push(chunk.subarray(0, toHeartbeat));
      this.#isOfHeartbeat = this.#cutter.unfinishedBytes > 0;
    }
    const isSound = this.#cutter.fault === undefined;
    for (const answer of isSound ? this.#cutter.push(chunk.subarray(toHeartbeat)) : []) {
      const isOfHeartbeat = this.#isOfHeartbeat;
      this.#isOfHeartbeat = false;
      if (isOfHeartbeat) continue;
      this.#judge(answer, ackedBytes);
      if (this.#ended) return;
    }
    const { fault } = this.#cutter;
    if (fault !== undefined) this.#fail(`its answers are framed otherwise: ${fault.message}`);
  }

  #judge(answer: Uint8Array, ackedBytes: number): void {
    const context = { remoteAddress: this.#remoteAddress, unansweredPackets: this.#waiting };
    let judgement: Judgement;
    try {
      judgement = this.#plan.judge(answer, context);
    } catch (error) {
      return this.#fail(`${messageOf(error)}; the server said ${quote(answer)}`);
    }
    if (judgement.kind === "ignored") return;
    const packets = "key" in judgement
      ? this.#withKey(judgement, answer, ackedBytes)
      : this.#next("packets" in judgement ? judgement.packets : 1, answer, ackedBytes);
    for (const packet of packets) {
      this.debt.sinceMs = undefined;
      this.#waiting--;
      if (judgement.kind !== "refused") packet.state = "accepted";
      else this.#refuse(packet, wordsOf(answer));
    }
    this.#advance();
  }

  *#open(): Generator<Waiting, undefined> {
    for (let at = this.#head; at < this.#packets.length; at++) {
      const packet = this.#packets[at];
      if (packet?.state === "waiting") yield packet;
    }
    return undefined;
  }

  /** The next packets that wait: so many, or with `Infinity` all that there are. */
  #next(count: number, answer: Uint8Array, ackedBytes: number): readonly Waiting[] {
    const open: Waiting[] = [];
    for (const packet of this.#open()) {
      if (open.length >= count || packet.end > ackedBytes) break;
      open.push(packet);
    }
    if (count === Infinity || open.length >= count) return open;
    const whose = open.length === 0
      ? "while no packet waited for an answer"
      : `as the answer to ${count} packets, and ${open.length} waited for one`;
    this.#fail(`the server said ${quote(answer)} ${whose}`);
    return [];
  }

  #withKey(
    { kind, key }: Extract<Judgement, { key: AnswerKey }>,
    answer: Uint8Array,
    ackedBytes: number,
  ): readonly Waiting[] {
    const before: Waiting[] = [];
    let packet: Waiting | undefined;
    for (const open of this.#open()) {
      before.push(open);
      if (open.key === key) {
        packet = open;
        break;
      }
    }
    if (packet === undefined && kind === "accepted-through") {
      // One that was accepted out of turn has others before it.
      const accepted = this.#packets.slice(this.#head).findLast((packet) =>
        packet.state === "accepted" && packet.key === key
      );
      if (accepted !== undefined) return before.filter(({ end }) => end < accepted.end);
    }
    if (packet === undefined) {
      this.#unknown = `the server said ${quote(answer)}, and no packet that waits for an answer ` +
        `has the key ${JSON.stringify(key)}: it counts as no answer`;
      return [];
    }
    if (packet.end > ackedBytes) {
      this.#fail(`the server said ${quote(answer)} to packet ${packet.id} before it had all of it`);
      return [];
    }
    return kind === "accepted-through" ? before : [packet];
  }

  #refuse(packet: Waiting, words: string): void {
    packet.words = words;
    if (this.#plan.onRefused === "dead-letter") packet.state = "refused";
    else {
      this.#refusal = { id: packet.id, words };
      this.finish();
    }
  }

  #fail(words: string): void {
    this.#fault = words;
    this.finish();
  }

  #advance(): void {
    for (let packet = this.#packets[this.#head]; packet !== undefined;) {
      if (packet.state !== "accepted" && packet.state !== "buried") break;
      this.#confirmedThroughId = packet.id;
      if (packet.state === "accepted") this.#confirmedPackets++;
      packet = this.#packets[++this.#head];
    }
    if (this.#head * 2 <= this.#packets.length) return;
    this.#packets = this.#packets.slice(this.#head);
    this.#head = 0;
  }
}
