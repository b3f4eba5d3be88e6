/**
 * The way of the packets through a sender: read ahead from the queue, assigned
 * to a connection, drained, held, confirmed, removed from disk (ARCHITECTURE.md, Words).
 *
 * Four marks walk through the ids. Their order is the promise, and asserted wherever one moves:
 *
 *     removed ≤ confirmed ≤ drained ≤ assigned ≤ last id on disk
 *
 * The connection says what is drained, and what is confirmed (`Confirmation`).
 *
 * Invariants:
 * 1. Only a confirmed id is removed, and no removal takes more packets than were
 *    confirmed.
 * 2. A rewind puts assigned and drained back to confirmed.
 * 3. Ids are assigned in order, whole packets only, without gaps but for
 *    packets that somebody else removed.
 * 4. In flight never exceeds `maxInFlightBytes`, or two packets if those are larger, but for
 *    what a transform adds to the last packet.
 * 5. Nothing is assigned faster than its `Pace`, the backlog of an outage
 *    not faster than its own.
 * 6. An expired packet is not assigned. One that has ended `maxAttempts`
 *    connections is given up; see `Suspects`.
 * 7. With `session.separate` a packet is assigned when all before it is acknowledged.
 * 8. With a transform a packet is transformed once a connection, when it is assigned: by
 *    its stored bytes it fits, its wire's bytes count from then on. One that cannot be
 *    transformed, or has no key where answers have some, is given up.
 * 9. Where answers confirm, no more than `maxUnanswered` packets are assigned and not
 *    confirmed, and none while a heartbeat waits for its own answer. One that the server
 *    refuses is confirmed once it is a dead letter, and so is never removed as a packet.
 */

import { messageOf } from "../base/errors.ts";
import { isLastingOfQueue } from "../base/lasting.ts";
import { packetsWithin, sliceBatch } from "../base/packet_batch.ts";
import type { Clock, DeliveryQueue, PacketBatch } from "../base/ports.ts";
import type { Opened } from "../session/open.ts";
import { type OutgoingBatch, type Transform, Transformer } from "../session/transform.ts";
import type { Answers } from "./answers.ts";
import { confirmedBy, type Connection, type ConnectionLimits } from "./connection.ts";
import { Pace, type PaceLimits } from "./pace.ts";
import { Suspects } from "./suspects.ts";

/** A queue that failed to read or remove is asked again after this. */
const QUEUE_RETRY_MS = 1000;

export interface SendWindowLimits
  extends PaceLimits, Pick<ConnectionLimits, "session" | "answers" | "reads"> {
  readonly maxInFlightBytes: number;
  /** For packets that waited when the connection was made; slower than the others, or the same. */
  readonly backlogPace: PaceLimits;
  /** In so many connections that broke a packet may have been under way. */
  readonly maxAttempts: number;
  /** Makes the bytes on the wire; undefined: they are those that are stored. */
  readonly transform?: Transform | undefined;
}

export interface SendWindowOptions {
  readonly queue: DeliveryQueue;
  readonly clock: Clock;
  readonly limits: SendWindowLimits;
  /** Ids up to here may have been on a wire in an earlier life. */
  readonly sentThroughId: number;
  /** Called when a read or a removal has finished. */
  readonly onActivity: () => void;
  /** Called when the queue failed, or failed `again`; it will be asked once more. */
  readonly onQueueFault: (words: string, error: unknown, again: boolean) => void;
  /** Called when a packet cannot be transformed, or has no key, and is given up. */
  readonly onUnsendable: (words: string, error: unknown) => void;
}

/** However large packets are: while one is acknowledged, the next is on its way. */
const LEAST_IN_FLIGHT = 2;

/** A moment; one that has passed was for something that is over. */
function later(atMs: number, nowMs: number): number {
  return atMs > nowMs ? atMs : Infinity;
}

/** When the queue is asked again for something that it has failed to do. */
class Retry {
  /** The next time; `-Infinity`: the last one has not failed. */
  atMs = -Infinity;
  #sinceMs: number | undefined;

  /** For how long it has failed each time; 0: it has not. */
  failedForMs(nowMs: number): number {
    return nowMs - (this.#sinceMs ?? nowMs);
  }

  done(): void {
    this.atMs = -Infinity;
    this.#sinceMs = undefined;
  }

  /** Says whether it had failed the last time, too. */
  failed(nowMs: number): boolean {
    const again = this.#sinceMs !== undefined;
    this.#sinceMs ??= nowMs;
    this.atMs = nowMs + QUEUE_RETRY_MS;
    return again;
  }
}

/** The packets between the queue's file and one connection. */
export class SendWindow {
  readonly #options: SendWindowOptions;
  readonly #queue: DeliveryQueue;
  /** Those of the present connection. */
  #limits: SendWindowLimits;
  #pace: Pace;
  #backlogPace: Pace;
  readonly #suspects: Suspects;

  #removedId: number;
  #confirmedId: number;
  #drainedId: number;
  #assignedId: number;
  /** Nothing above it is sent: set once, when the sender closes. */
  #lastIdToSend = Infinity;
  /** What was stored when the connection was made. */
  #backlogThroughId = 0;
  #paceReadyAtMs = Infinity;
  #givingUp: Promise<void> | undefined;
  readonly #buryRetry = new Retry();
  /** What was read before the last of them is read again. */
  #burials = 0;

  /** The last packet assigned to the present connection. */
  #lastSentId = 0;
  #highestSentId: number;
  #redeliveredPackets = 0;

  /** Read and not yet assigned. */
  #ahead: PacketBatch[] = [];
  #reading = false;
  readonly #readRetry = new Retry();
  /** Why the last read has failed; undefined: it has not. */
  readFailure: string | undefined;
  /** Of the present connection, where packets are transformed. */
  #transformer: Transformer | undefined;

  #removal: Promise<void> | undefined;
  readonly #removeRetry = new Retry();
  #failure: { readonly error: unknown } | undefined;

  constructor(options: SendWindowOptions) {
    this.#options = options;
    this.#queue = options.queue;
    this.#limits = options.limits;
    this.#pace = new Pace(options.limits);
    this.#backlogPace = new Pace(options.limits.backlogPace);
    this.#suspects = new Suspects(options.limits.maxAttempts);
    this.#removedId = options.queue.removedThroughId;
    this.#confirmedId = this.#removedId;
    this.#drainedId = this.#removedId;
    this.#assignedId = this.#removedId;
    this.#highestSentId = options.sentThroughId;
  }

  /** The id before the first packet of the next connection. */
  get assignedId(): number {
    return this.#assignedId;
  }

  /** How long confirmed packets could not be removed; 0: they can be. */
  stuckMs(nowMs: number): number {
    return this.#removeRetry.failedForMs(nowMs);
  }

  /** @throws What the queue failed with, where trying again cannot help. */
  throwIfBroken(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  get redeliveredPackets(): number {
    return this.#redeliveredPackets;
  }

  /** Whether the queue has packets that the present connection was not given. */
  get hasMore(): boolean {
    return this.#givenOrGoneId < Math.min(this.#queue.lastId, this.#lastIdToSend);
  }

  /** Whether dead letters are being made: what lies behind them counts once they are. */
  get isBurying(): boolean {
    return this.#givingUp !== undefined;
  }

  /** Nothing above this id will be sent any more. */
  stopAfter(id: number): void {
    this.#lastIdToSend = id;
  }

  /** Whether every packet up to `id` has drained on the present connection, or is gone. */
  hasDrained(id: number, connection: Connection | undefined): boolean {
    // An acknowledgement says nothing where something else confirms.
    const byKernel = confirmedBy(this.#limits) === "kernel";
    if (id <= (byKernel ? this.#drainedId : this.#confirmedId)) return true;
    const isOpen = (connection?.openPackets ?? 0) > 0 || this.#givingUp !== undefined;
    return id <= this.#givenOrGoneId && !isOpen;
  }

  /** Every packet up to this one was given to the present connection, or has left the queue. */
  get #givenOrGoneId(): number {
    return Math.max(this.#assignedId, this.#queue.removedThroughId);
  }

  setPace(pace: PaceLimits, backlogPace: PaceLimits): void {
    this.#pace = new Pace(pace);
    this.#backlogPace = new Pace(backlogPace);
  }

  /** A connection was made, and keeps to these limits: what is stored by now is its backlog. */
  connected(opened: Opened, limits: SendWindowLimits): void {
    this.#limits = limits;
    this.#backlogThroughId = this.#queue.lastId;
    const { transform, answers } = limits;
    this.#transformer = transform === undefined && answers?.keyOf === undefined
      ? undefined
      : new Transformer(transform, opened, answers?.keyOf);
  }

  /** Assigns what fits, and reads ahead. */
  topUp(connection: Connection, nowMs: number): void {
    this.#paceReadyAtMs = Infinity;
    if (this.#givingUp !== undefined) return;
    const { maxInFlightBytes } = this.#limits;
    const taken: OutgoingBatch[] = [];
    let { inFlightBytes, inFlightPackets, unconfirmedPackets: unconfirmed } = connection;
    const mustWait = connection.awaitsHeartbeat;
    let next = 0;
    for (; !mustWait && next < this.#ahead.length; next++) {
      const stored = this.#ahead[next];
      if (stored === undefined) break;
      if (this.#isExpired(stored)) {
        // To be read again without it.
        this.#ahead = [];
        next = 0;
        break;
      }
      const inRoom = this.#packetsToSend(stored, inFlightBytes, inFlightPackets, unconfirmed);
      const allowed = this.#transformer === undefined ? inRoom : Math.min(inRoom, 1);
      const packets = this.#packetsInPace(stored, allowed, nowMs);
      if (packets === 0) {
        if (allowed > 0) this.#waitForPace(stored, 0, nowMs);
        break;
      }
      // Only what goes out now is transformed: what waits may expire, or be taken out.
      const part = this.#transformer === undefined
        ? sliceBatch(stored, 0, packets)
        : this.#transformFirst(this.#transformer, stored);
      if (part === undefined) break;
      this.#spendPace(stored, part, nowMs);
      if (packets < allowed) this.#waitForPace(stored, packets, nowMs);
      inFlightBytes += part.bytes.length;
      inFlightPackets += packets;
      unconfirmed += packets;
      taken.push(part);
      if (packets === stored.ends.length) continue;
      const rest = sliceBatch(stored, packets, stored.ends.length);
      // What went out before is copied before.
      this.#ahead[next] = stored.ownsMemory ? { ...rest, ownsMemory: true } : rest;
      if (this.#transformer === undefined) break;
      next--; // The next packet of the same batch.
    }
    this.#ahead.splice(0, next);
    if (taken.length > 0) this.#assign(connection, taken);
    // A whole window at once: what is acknowledged makes room for packets that are there already.
    if (
      this.#givingUp === undefined && this.#ahead.length === 0 &&
      (inFlightBytes < maxInFlightBytes || inFlightPackets < LEAST_IN_FLIGHT) && this.hasMore
    ) {
      this.#readAhead(maxInFlightBytes, nowMs);
    }
  }

  /** Takes over what a poll found. Says whether anything was confirmed. */
  take({ drainedThroughId, confirmation, answers }: Connection): boolean {
    const { confirmedThroughId } = confirmation;
    this.#drainedId = Math.max(this.#drainedId, drainedThroughId);
    const isNew = confirmedThroughId > this.#confirmedId;
    if (isNew) this.#confirmedId = confirmedThroughId;
    this.#assertOrder();
    if (answers !== undefined) this.#buryRefused(answers);
    return isNew;
  }

  /** The connection broke through no fault of this host: what was under way may be why. */
  suspect(connection: Connection): void {
    const packets = connection.unconfirmedPackets;
    // What the kernel was never given has harmed nobody.
    if (!connection.carriesPackets && connection.confirmation.heldPackets === 0) return;
    const id = this.#lastSentId;
    const standing = { confirmedId: this.#confirmedId, throughId: id, packets };
    const attempts = this.#suspects.broke(standing);
    if (attempts !== undefined) this.#giveUp(id, attempts);
  }

  /** The connection is gone: what is not confirmed will be assigned again. */
  rewind(): void {
    this.#ahead = [];
    this.#drainedId = this.#confirmedId;
    this.#assignedId = this.#confirmedId;
    this.#assertOrder();
  }

  /** One removal at a time. */
  removeConfirmed(nowMs: number): void {
    if (this.#removal !== undefined || this.#confirmedId <= this.#removedId) return;
    if (nowMs < this.#removeRetry.atMs) return;
    this.#assertOrder();
    const throughId = this.#confirmedId;
    this.#removal = this.#queue.removeThrough(throughId).then(
      () => {
        this.#removedId = throughId;
        this.#removeRetry.done();
      },
      (error) =>
        this.#queueFailed(
          "cannot remove confirmed packets from the queue",
          error,
          this.#removeRetry,
        ),
    ).finally(() => {
      this.#removal = undefined;
      this.#options.onActivity();
    });
  }

  /** Lets what is under way end, and tries a last removal. */
  async finishRemovals(): Promise<void> {
    await this.#givingUp;
    await this.#removal;
    this.removeConfirmed(Infinity);
    await this.#removal;
  }

  /** In how many milliseconds there is something to do, also if nothing happens until then. */
  dueInMs(nowMs: number): number {
    const waiting = this.#confirmedId > this.#removedId && this.#removal === undefined;
    const dueAtMs = Math.min(
      waiting ? this.#removeRetry.atMs : Infinity,
      this.hasMore && !this.#reading ? later(this.#readRetry.atMs, nowMs) : Infinity,
      later(this.#paceReadyAtMs, nowMs),
      later(this.#buryRetry.atMs, nowMs),
    );
    return Math.max(0, dueAtMs - nowMs);
  }

  #giveUp(id: number, attempts: number, words?: string): void {
    this.#bury(() => this.#queue.giveUp(id, attempts, words), () => {}, (error) => {
      // It will be sent again, and counted from one.
      this.#queueFailed(`cannot give packet ${id} up`, error, this.#readRetry);
    });
  }

  /** Makes dead letters, one burial after the other. No packet goes out meanwhile. */
  #bury(work: () => Promise<void>, onDone: () => void, onFailed: (error: unknown) => void): void {
    const before = this.#givingUp;
    const burial = (async () => {
      await before;
      await work();
    })().then(onDone, onFailed).finally(() => {
      if (this.#givingUp === burial) this.#givingUp = undefined;
      this.#options.onActivity();
    });
    this.#givingUp = burial;
  }

  /** Makes dead letters of what the server has refused. */
  #buryRefused(answers: Answers): void {
    const { clock } = this.#options;
    if (this.#givingUp !== undefined || clock.nowMs() < this.#buryRetry.atMs) return;
    const refused = answers.toBury;
    if (refused.length === 0) return;
    const work = async () => {
      for (const { id, words } of refused) {
        await this.#queue.refuse(id, words);
        answers.buried(id);
      }
    };
    this.#bury(
      work,
      () => {
        this.#buryRetry.done();
        // A row that one was taken out of may have turned out to be damaged.
        this.#ahead = [];
        this.#burials++;
      },
      (error) => {
        // Nothing behind it is removed before; over another connection it is refused again.
        this.#queueFailed("cannot make dead letters of refused packets", error, this.#buryRetry);
      },
    );
  }

  /** The first packet as it goes on the wire; undefined: nobody can send it, and the rest is read anew. */
  #transformFirst(transformer: Transformer, stored: PacketBatch): OutgoingBatch | undefined {
    const transformed = transformer.first(stored);
    if ("batch" in transformed) return transformed.batch;
    const { id, error } = transformed;
    this.#ahead = [];
    this.#options.onUnsendable(`packet ${id} cannot be sent: ${error.message}`, error);
    this.#giveUp(id, 0, error.message);
    return undefined;
  }

  #queueFailed(words: string, error: unknown, retry: Retry): void {
    if (isLastingOfQueue(error)) this.#failure ??= { error };
    this.#options.onQueueFault(words, error, retry.failed(this.#options.clock.nowMs()));
  }

  /** A wrong order would remove what nobody has confirmed: better no sender than that. */
  #assertOrder(): void {
    const ordered = this.#removedId <= this.#confirmedId && this.#confirmedId <= this.#drainedId &&
      this.#drainedId <= this.#assignedId;
    if (ordered) return;
    throw new RangeError(
      `removed ${this.#removedId} ≤ confirmed ${this.#confirmedId} ≤ drained ${this.#drainedId} ≤ ` +
        `assigned ${this.#assignedId} does not hold. Nothing more is removed. Please report this.`,
    );
  }

  /** The wall clock may be set while a batch waits here; what passes until then is our time. */
  #byOurClock(batch: PacketBatch): PacketBatch {
    if (batch.expiresAtMs === Infinity) return batch;
    const { clock } = this.#options;
    return { ...batch, expiresAtMs: batch.expiresAtMs - clock.wallMs() + clock.nowMs() };
  }

  #isExpired({ expiresAtMs }: PacketBatch): boolean {
    return expiresAtMs <= this.#options.clock.nowMs();
  }

  /** How many of a batch's packets may be under way: two, be they larger than the window. */
  #packetsToSend(
    batch: PacketBatch,
    inFlightBytes: number,
    inFlightPackets: number,
    unconfirmed: number,
  ): number {
    const toSend = Math.min(batch.ends.length, this.#lastIdToSend + 1 - batch.firstId);
    if (toSend <= 0) return 0;
    if (this.#limits.session?.separate && inFlightBytes > 0) return 0;
    // Ids may be missing, so that the first packet lies beyond the trial.
    const onTrial = this.#suspects.trialThroughId(this.#confirmedId) + 1 - batch.firstId;
    const roomBytes = this.#limits.maxInFlightBytes - inFlightBytes;
    return Math.min(
      this.#limits.session?.separate ? 1 : toSend,
      Math.max(packetsWithin(batch, roomBytes), LEAST_IN_FLIGHT - inFlightPackets),
      Math.max(onTrial, unconfirmed === 0 ? 1 : 0),
      (this.#limits.answers?.maxUnanswered ?? Infinity) - unconfirmed,
    );
  }

  #pacesOf({ firstId }: PacketBatch): readonly Pace[] {
    return firstId <= this.#backlogThroughId ? [this.#pace, this.#backlogPace] : [this.#pace];
  }

  /** How many of a batch's first `allowed` packets may go now. */
  #packetsInPace(batch: PacketBatch, allowed: number, nowMs: number): number {
    if (allowed <= 0) return 0;
    return Math.min(allowed, ...this.#pacesOf(batch).map((pace) => pace.packetsNow(batch, nowMs)));
  }

  /** What goes out counts by the bytes that the wire gets. */
  #spendPace(stored: PacketBatch, { ends, bytes }: PacketBatch, nowMs: number): void {
    for (const pace of this.#pacesOf(stored)) pace.spend(ends.length, bytes.length, nowMs);
  }

  /** The packet behind a batch's first ones goes out later. */
  #waitForPace(batch: PacketBatch, packets: number, nowMs: number): void {
    const bytes = batch.ends[packets - 1] ?? 0;
    const nextBytes = (batch.ends[packets] ?? bytes) - bytes;
    this.#paceReadyAtMs = nowMs +
      Math.max(...this.#pacesOf(batch).map((pace) => pace.readyInMs(nextBytes, nowMs)));
  }

  #assign(connection: Connection, taken: readonly OutgoingBatch[]): void {
    for (const { firstId, ends } of taken) {
      const lastId = firstId + ends.length - 1;
      const again = Math.min(lastId, this.#highestSentId) + 1 - firstId;
      this.#redeliveredPackets += Math.max(0, again);
      this.#highestSentId = Math.max(this.#highestSentId, lastId);
      if (firstId <= this.#assignedId) {
        throw new RangeError(
          `packet ${firstId} is to be sent after ${this.#assignedId}: the queue's file ` +
            `contradicts itself. Nothing of it was sent. Stop here, and see sendq check.`,
        );
      }
      this.#assignedId = lastId;
      this.#lastSentId = lastId;
    }
    this.#assertOrder();
    this.#queue.rememberSent(this.#highestSentId);
    connection.send(taken);
  }

  #readAhead(maxBytes: number, nowMs: number): void {
    if (this.#reading || nowMs < this.#readRetry.atMs) return;
    this.#reading = true;
    const afterId = this.#assignedId;
    const knownId = this.#queue.lastId;
    const burials = this.#burials;
    this.#queue.readBatches(afterId, maxBytes).then(
      (batches) => {
        this.#readRetry.done();
        this.readFailure = undefined;
        // A rewind came in between: these are not the next ones any more.
        if (this.#assignedId !== afterId || this.#burials !== burials) return;
        this.#ahead = batches.map((batch) => this.#byOurClock(batch));
        // Somebody else has removed them.
        if (batches.length === 0) this.#assignedId = Math.max(afterId, knownId);
      },
      (error) => {
        this.readFailure = messageOf(error);
        this.#queueFailed("cannot read the queue", error, this.#readRetry);
      },
    ).finally(() => {
      this.#reading = false;
      this.#options.onActivity();
    });
  }
}
