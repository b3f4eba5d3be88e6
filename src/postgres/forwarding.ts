/**
 * The loop that takes packets out of an edge's file and into the cluster. Each packet once:
 *
 * 1. The cluster keeps, in the transaction that stores packets, the highest of the file's ids
 *    that it has (`through`), when the file has stored that packet, and its checksum.
 * 2. Packets leave the file only once the cluster has said that it has them.
 * 3. After whatever went wrong the forwarder begins anew: under a new epoch, so that nothing that
 *    is still on its way is done any more, and with the cluster's `through`. What the cluster has
 *    leaves the file then: its answer was lost.
 * 4. But only where the packet `through` of the file is the one that the cluster has: ids follow
 *    each other, so that all before it are the same, too. Else the file was restored or copied,
 *    and is refused, before anything is changed in the cluster.
 *
 * Nothing expires in the file while it is not known whether the cluster has it.
 */

import { crc32 } from "node:zlib";
import { QueueFileError } from "../base/errors.ts";
import { EdgeRefusedError } from "./errors.ts";
import { isLastingOfQueue } from "../base/lasting.ts";
import type { Clock, Random } from "../base/ports.ts";
import { Backoff } from "../delivery/backoff.ts";
import { WakeSignal } from "../delivery/wake_signal.ts";
import { type Ringer, ringerOf } from "../queue/doorbell.ts";
import type { OutboundQueue } from "../queue/queue.ts";
import type { SendingSide } from "../queue/sending_side.ts";
import { spanWords } from "../sender/outage.ts";
import { type BatchBounds, packForEdge, takeWithin } from "./edge_batch.ts";
import type {
  EdgeCalls,
  EdgeKnown,
  EdgeNotice,
  EdgeSession,
  Namesake,
  Room,
} from "./edge_calls.ts";
import { MAX_PACKET_BYTES, RING_INTERVAL_MS } from "./options.ts";

/** So much costs about as long as the syncs of two disks. */
const CALL: BatchBounds = { maxPackets: 4096, maxBytes: 512 * 1024 };
/** While there is no room, so much is offered. */
const PROBE: BatchBounds = { maxPackets: 1, maxBytes: 1 };
/** A full queue is asked again after this. */
const FULL_MS = 1000;
/** A forwarder that has nothing to do says so this often. */
const BEAT_MS = 10_000;
/** The first pause after a failure, and the longest. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 3000;

/** What happens in the loop. */
export interface ForwardingEvents {
  /** The cluster is asked what it has. */
  connecting(): void;
  /** It has said so, and takes packets. */
  connected(): void;
  /** Something went wrong; it is tried again. */
  failed(error: Error): void;
  /** The cluster has answered, and nothing else happened. */
  answered(): void;
  /** There is no room. */
  full(): void;
  /** Packets are in the cluster and not in the file any more. */
  forwarded(packets: number, bytes: number): void;
  /** There is nothing to forward. */
  idle(): void;
  /** A person may want to know this. */
  warn(words: string): void;
}

/** What the loop works with. */
export interface ForwardingParts {
  readonly queue: OutboundQueue;
  readonly sending: SendingSide;
  readonly calls: EdgeCalls;
  readonly edge: string;
  /** See `ForwarderOptions`. */
  readonly asNew: boolean;
  readonly maxBytes: number;
  /** Called once nothing is in doubt: from now on packets may expire. */
  readonly settled: () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: ForwardingEvents;
}

/** One forwarder's loop. */
export class Forwarding {
  readonly #parts: ForwardingParts;
  readonly #wake: WakeSignal;
  readonly #backoff: Backoff;
  #id: string | undefined;
  #session: EdgeSession | undefined;
  /** What the cluster has said that it has, in this process. */
  #through = 0;
  #bounds = CALL;
  #beatAtMs = 0;
  readonly #ringer: Ringer;
  /** The last ring; it never fails. */
  #ringing: Promise<void> | undefined;
  #stopped = false;
  #draining = false;

  constructor(parts: ForwardingParts) {
    this.#parts = parts;
    this.#wake = new WakeSignal(parts.clock);
    this.#backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS, parts.random, 0.5);
    this.#ringer = ringerOf(RING_INTERVAL_MS, parts.clock, () => {
      this.#ringing = parts.calls.ring();
    });
  }

  /** The highest id that the cluster has; `undefined`: it was not asked yet. */
  get through(): number | undefined {
    return this.#session === undefined && this.#through === 0 ? undefined : this.#through;
  }

  /** There may be packets. */
  wake(): void {
    this.#wake.wakeSoon();
  }

  /** Ends once everything is forwarded. */
  drain(): void {
    this.#draining = true;
    this.#wake.wake();
  }

  /** Ends now: the next start finds out what has become of what is under way. */
  stop(): void {
    this.#stopped = true;
    this.#parts.calls.close();
    this.#wake.wake();
  }

  /**
   * Runs until it is stopped.
   *
   * @throws What no time will mend.
   */
  async run(): Promise<void> {
    const { events } = this.#parts;
    try {
      for (;;) {
        if (this.#session === undefined) await this.#look();
        if (this.#isOver()) break;
        try {
          this.#parts.sending.assertOpen();
          this.#session ??= await this.#begin();
          await this.#step(this.#session);
        } catch (error) {
          this.#session = undefined;
          if (this.#stopped) continue;
          if (isLastingOfQueue(error)) throw error;
          events.failed(error instanceof Error ? error : new Error(String(error)));
          await this.#pause(this.#backoff.nextDelayMs());
        }
      }
      await this.#sayLastWords();
    } finally {
      this.#ringer.flush();
      // The connection's end must not come before it; a stop has ended that already.
      await this.#ringing;
      this.#parts.calls.close();
    }
  }

  #isOver(): boolean {
    const { queue } = this.#parts;
    const { packets, waitingPackets } = queue.stats();
    return this.#stopped || (this.#draining && packets === 0 && waitingPackets === 0);
  }

  /**
   * Counts what other processes have stored: before the cluster has answered once, nobody listens
   * for that, because whoever does has packets expire as well.
   */
  async #look(): Promise<void> {
    try {
      await this.#parts.sending.pollOtherProcesses();
    } catch {
      // Whatever comes next fails of it, too.
    }
  }

  async #begin(): Promise<EdgeSession> {
    const { clock, events, sending, settled } = this.#parts;
    events.connecting();
    this.#id ??= await this.#file.edgeId() ?? await this.#newId();
    const session = await this.#open(this.#id);
    if (session.through > sending.removedThroughId) await sending.removeThrough(session.through);
    this.#through = session.through;
    this.#beatAtMs = clock.nowMs();
    settled();
    events.connected();
    return session;
  }

  /** Looks first: what is refused changes nothing in the cluster. */
  async #open(id: string): Promise<EdgeSession> {
    const { calls, events, asNew, edge } = this.#parts;
    let takesName = false;
    let looked: EdgeKnown | undefined;
    for (;;) {
      const found = await calls.open(id, takesName, looked);
      if ("namesake" in found) {
        if (!asNew) throw this.#refusedAsReplaced(found);
        events.warn(`another file was forwarded as ${edge}: from now on it is this one`);
        takesName = true;
        continue;
      }
      if ("epoch" in found) return found;
      if (found.through < this.#through) {
        events.warn(
          "the cluster has gone back to an earlier state: packets up to id " +
            `${this.#through} were acknowledged, and it has those up to ${found.through} alone. ` +
            "What is missing left this file before, and has to come from where it was stored first",
        );
      }
      this.#through = found.through;
      looked = found;
      const contradiction = await this.#contradiction(found);
      if (contradiction === undefined) continue;
      if (!asNew) throw this.#refusedAsRestored(contradiction);
      events.warn(`${contradiction}: all that is in the file is forwarded, as from a new edge`);
      this.#id = id = await this.#newId();
      this.#through = 0;
      takesName = true;
      looked = undefined;
    }
  }

  get #file() {
    const { edge } = this.#parts.sending;
    if (edge === undefined) throw new TypeError("the queue is no file");
    return edge;
  }

  async #newId(): Promise<string> {
    const id = crypto.randomUUID();
    await this.#file.setEdgeId(id);
    return id;
  }

  /** Why the file is not the one that the cluster knows; `undefined`: it is. */
  async #contradiction({ through, markMs, markCrc }: EdgeKnown): Promise<string | undefined> {
    const { sending, queue } = this.#parts;
    await sending.pollOtherProcesses();
    if (through <= sending.removedThroughId) return undefined;
    if (through > sending.lastId) {
      return `the cluster has packets of this file up to id ${through}, and the file ends ` +
        `with id ${sending.lastId}`;
    }
    const isSame = await this.#file.enqueuedAtMs(through) === markMs &&
      (await crcOf(queue, through) ?? markCrc) === markCrc;
    // Others may have removed it meanwhile, to make room for new ones.
    if (isSame || through <= sending.removedThroughId) return undefined;
    return `the cluster has packets of this file up to id ${through}, and in the file that ` +
      "packet is another one, or missing";
  }

  #refusedAsRestored(contradiction: string): EdgeRefusedError {
    const { queue: { path }, edge } = this.#parts;
    const words =
      `Edge ${edge}: ${contradiction}. The file ${path} was restored from a backup, or ` +
      "a copy of it was forwarded. Nothing was forwarded or removed. Put the right file in its " +
      "place; or, where that one is gone, remove what of this one the cluster has already (sendq " +
      "list, sendq remove), and let the rest be forwarded as from a new edge, once: asNew.";
    return new EdgeRefusedError("restored", path, edge, words);
  }

  #refusedAsReplaced({ namesake, through, seenAgoMs }: Namesake): EdgeRefusedError {
    const { queue: { path }, edge } = this.#parts;
    const words = `Edge ${edge}: another file was forwarded under this name, with packets up to ` +
      `id ${through}, last heard of ${spanWords(seenAgoMs)} ago (${namesake}). Either the file ` +
      `${path} was removed and made anew, and what the old one held is gone: then start once ` +
      'with asNew. Or two edges have one name: then give each its own (edge "…"). Nothing was ' +
      "forwarded or removed.";
    return new EdgeRefusedError("replaced", path, edge, words);
  }

  /** One call, or a wait. */
  async #step(session: EdgeSession): Promise<void> {
    const { sending, calls, events } = this.#parts;
    const after = Math.max(session.through, sending.removedThroughId);
    const found = sending.lastId > after
      ? await sending.readBatches(after, this.#bounds.maxBytes)
      : [];
    if (found.length === 0) return await this.#idle(session);
    const batches = takeWithin(found, this.#bounds);
    const batch = packForEdge(batches);
    const bytes = batch.payload.length;
    const mostBytes = Math.min(MAX_PACKET_BYTES, this.#parts.maxBytes);
    if (batch.packets === 1 && bytes > mostBytes) {
      const words = `${bytes} bytes are more than the cluster's queue takes (${mostBytes})`;
      return await sending.giveUp(batch.lastId, 0, words);
    }
    // A dead letter made of it from now on may be in the cluster as well.
    sending.rememberSent(batch.lastId);
    const markMs = await this.#file.enqueuedAtMs(batch.lastId) ?? 0;
    await this.#file.sync();
    const room = await calls.forward(this.#id ?? "", session, batch, markMs, this.#notice());
    if (room !== undefined) return await this.#awaitRoom(session, room, batch.packets);
    this.#session = { ...session, through: batch.lastId, markMs, markCrc: batch.lastCrc };
    this.#through = batch.lastId;
    this.#bounds = CALL;
    this.#backoff.reset();
    this.#beatAtMs = this.#parts.clock.nowMs();
    this.#ringer.ring();
    await sending.removeThrough(batch.lastId);
    events.forwarded(batch.packets, bytes);
  }

  async #awaitRoom(
    session: EdgeSession,
    { roomPackets, roomBytes }: Room,
    packets: number,
  ): Promise<void> {
    const { events } = this.#parts;
    if (packets > 1 && roomPackets >= 1 && roomBytes >= 1) {
      // A part of it fits; where not even its first packet does, the next answer says so.
      this.#bounds = { maxPackets: Math.min(roomPackets, packets - 1), maxBytes: roomBytes };
      return;
    }
    this.#bounds = PROBE;
    events.full();
    // What was refused leaves no trace in the cluster: it would call this edge unseen.
    if (this.#beatInMs() <= 0) await this.#beat(session);
    await this.#pause(Math.min(FULL_MS, this.#beatInMs()));
  }

  /** Waits for packets, and says now and then that it lives. */
  async #idle(session: EdgeSession): Promise<void> {
    this.#parts.events.idle();
    const leftMs = this.#beatInMs();
    if (leftMs > 0) return await this.#wake.wait(leftMs);
    await this.#beat(session);
  }

  #beatInMs(): number {
    return this.#beatAtMs + BEAT_MS - this.#parts.clock.nowMs();
  }

  #notice(): EdgeNotice {
    const { queue, clock } = this.#parts;
    const { packets, bytes, oldestEnqueuedAtMs, deadPackets } = queue.stats();
    const nowMs = clock.wallMs();
    return {
      queuedPackets: packets,
      queuedBytes: bytes,
      oldestAgeMs: Math.max(0, Math.round(nowMs - (oldestEnqueuedAtMs ?? nowMs))),
      deadPackets,
    };
  }

  /** Says that it lives. */
  async #beat(session: EdgeSession): Promise<void> {
    const { calls, clock, events } = this.#parts;
    await calls.beat(this.#id ?? "", session, this.#notice());
    this.#backoff.reset();
    this.#beatAtMs = clock.nowMs();
    events.answered();
  }

  /** What it has said of itself with its last packets counts them as waiting. */
  async #sayLastWords(): Promise<void> {
    if (this.#stopped || this.#session === undefined) return;
    try {
      await this.#beat(this.#session);
    } catch {
      // All is forwarded, and that is for people.
    }
  }

  /** However often it is woken meanwhile, unless it is stopped. */
  async #pause(ms: number): Promise<void> {
    const { clock } = this.#parts;
    const untilMs = clock.nowMs() + ms;
    while (!this.#isOver()) {
      const leftMs = untilMs - clock.nowMs();
      if (leftMs <= 0) return;
      await this.#wake.wait(leftMs);
    }
  }
}

/** A packet's checksum; `undefined`: it cannot be read. */
async function crcOf(queue: OutboundQueue, id: number): Promise<number | undefined> {
  try {
    const [packet] = await queue.read(id - 1, 1);
    return packet?.id === id ? crc32(packet.payload) : 0;
  } catch (error) {
    // Damaged, and so no proof of anything.
    if (error instanceof QueueFileError && error.reason === "corrupt") return undefined;
    throw error;
  }
}
