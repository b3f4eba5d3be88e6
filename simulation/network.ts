/**
 * The network between two hosts, and their kernels' tables of connections.
 *
 * @module
 */

import { WireError } from "../src/base/errors.ts";
import type { LocalFault } from "../src/base/ports.ts";
import type { SeededRandom } from "./random.ts";
import { cancel, type Scheduler, type SimEvent } from "./scheduler.ts";
import type { Segment, TcpOptions } from "./segment.ts";
import { TcpEnd } from "./tcp.ts";

/** One direction of the path. */
export class Lane {
  /** Nothing gets through. */
  blocked = false;
  /** Chance of each segment to be lost. */
  loss = 0;
  /** Bytes a millisecond. */
  bandwidth = Infinity;
  #freeAtMs = 0;

  /** When a segment sent now arrives; undefined: never. */
  arrival(
    nowMs: number,
    bytes: number,
    options: PathOptions,
    random: SeededRandom,
  ): number | undefined {
    if (this.blocked || (this.loss > 0 && random.chance(this.loss))) return undefined;
    const startMs = Math.max(nowMs, this.#freeAtMs);
    if ((startMs - nowMs) * this.bandwidth > options.queueBytes) return undefined;
    this.#freeAtMs = startMs + (this.bandwidth === Infinity ? 0 : (bytes + 60) / this.bandwidth);
    return this.#freeAtMs + options.delayMs;
  }
}

/** What does not change during a run. */
export interface PathOptions {
  readonly delayMs: number;
  /** What waits at the bottleneck before segments are dropped. */
  readonly queueBytes: number;
}

/** How a host answers a SYN. */
export type SynAnswer = "accept" | "refuse" | "ignore";

/** The server's side, as the network sees it. */
export interface ServerSide {
  /** Whether the machine has power. */
  readonly up: boolean;
  answerSyn(): SynAnswer;
  /** A new connection, before its program knows of it. */
  established(end: TcpEnd): void;
}

/** A connection attempt. */
interface Attempt {
  readonly connection: number;
  readonly startedAtMs: number;
  retry: SimEvent | undefined;
  readonly settle: (outcome: { end: TcpEnd } | { code: string }) => void;
}

/** A connection that the sender's kernel has not seen acknowledged yet. */
interface HalfOpen {
  readonly startedAtMs: number;
  readonly window: number;
  answers: number;
  retry: SimEvent | undefined;
}

const SYN_RETRY_MS = 1000;
/** So often the sender's kernel answers a SYN before it forgets it. */
const SYN_ACKS = 6;

/** Both kernels and what is between them. */
export class Network {
  readonly scheduler: Scheduler;
  readonly toServer: Lane = new Lane();
  readonly toClient: Lane = new Lane();
  /** A fault of the sender's own host: nothing leaves or comes in. */
  localFault: LocalFault | undefined;
  /** How long the remote's name takes to be looked up. */
  lookUpMs = 0;
  /** Whether this host's kernel leaves bytes_acked at 0, as gVisor does. */
  hidesAcks = false;
  /** What a router reports about what it cannot forward. */
  icmpCode: string | undefined;
  readonly #path: PathOptions;
  readonly #clientTcp: TcpOptions;
  readonly #serverTcp: TcpOptions;
  readonly #random: SeededRandom;
  readonly #server: ServerSide;
  readonly #clientEnds = new Map<number, TcpEnd>();
  readonly #serverEnds = new Map<number, TcpEnd>();
  readonly #attempts = new Map<number, Attempt>();
  readonly #serverAttempts = new Map<number, Attempt>();
  readonly #halfOpen = new Map<number, HalfOpen>();
  #listener: ((end: TcpEnd) => void) | undefined;
  #connections = 0;

  /** A network with a healthy path. */
  constructor(
    scheduler: Scheduler,
    random: SeededRandom,
    path: PathOptions,
    clientTcp: TcpOptions,
    serverTcp: TcpOptions,
    server: ServerSide,
  ) {
    this.scheduler = scheduler;
    this.#random = random;
    this.#path = path;
    this.#clientTcp = clientTcp;
    this.#serverTcp = serverTcp;
    this.#server = server;
  }

  /** The sender's ends, dead ones not included. */
  get clientEnds(): Iterable<TcpEnd> {
    return this.#clientEnds.values();
  }

  /** The server's ends, dead ones not included. */
  get serverEnds(): Iterable<TcpEnd> {
    return this.#serverEnds.values();
  }

  /** Whoever listens on the sender's host; undefined: SYNs are refused. */
  set listener(listener: ((end: TcpEnd) => void) | undefined) {
    this.#listener = listener;
    for (const { retry } of this.#halfOpen.values()) cancel(retry);
    this.#halfOpen.clear();
  }

  /** Sets {@linkcode hidesAcks}; what was hidden comes back on connections that are there. */
  hideAcks(hides: boolean): void {
    this.hidesAcks = hides;
    if (!hides) { for (const end of this.#clientEnds.values()) end.hidesAcks = false; }
  }

  /** Looks the name up, then connects; see {@linkcode connect}. */
  lookUpAndConnect(
    onLookedUp: () => void,
    settle: (outcome: { end: TcpEnd } | { code: string }) => void,
  ): () => void {
    let forget: (() => void) | undefined;
    const lookUp = (): void => {
      onLookedUp();
      forget = this.connect(settle);
    };
    if (this.lookUpMs === 0) {
      lookUp();
      return () => forget?.();
    }
    const event = this.scheduler.after(this.lookUpMs, lookUp);
    return () => {
      cancel(event);
      forget?.();
    };
  }

  /** Makes one attempt; `settle` is told once, unless the result is cancelled before. */
  connect(settle: (outcome: { end: TcpEnd } | { code: string }) => void): () => void {
    const connection = ++this.#connections;
    const attempt: Attempt = {
      connection,
      startedAtMs: this.scheduler.nowMs,
      retry: undefined,
      settle,
    };
    this.#attempts.set(connection, attempt);
    if (this.localFault !== undefined) {
      // connect() itself fails, before any packet (section 6.1).
      this.scheduler.after(0, () => this.#attemptOver(attempt, { code: "ENETUNREACH" }));
    } else this.#sendSyn(attempt);
    return () => this.#forget(attempt);
  }

  /** The server's program connects to the sender; see {@linkcode connect}. */
  connectFromServer(
    settle: (outcome: { end: TcpEnd } | { code: string }) => void,
  ): () => void {
    const connection = ++this.#connections;
    const startedAtMs = this.scheduler.nowMs;
    const attempt: Attempt = { connection, startedAtMs, retry: undefined, settle };
    this.#serverAttempts.set(connection, attempt);
    const sendSyn = (): void => {
      this.#transmit(this.#bare(connection, false, "syn"));
      attempt.retry = this.scheduler.after(SYN_RETRY_MS, sendSyn);
    };
    sendSyn();
    return () => this.#forgetOfServer(attempt);
  }

  /** The sender's host loses its power: no kernel is left to say goodbye. */
  clientVanishes(): void {
    for (const attempt of [...this.#attempts.values()]) this.#forget(attempt);
    this.listener = undefined;
    for (const end of [...this.#clientEnds.values()]) end.vanish();
  }

  /** A router in between resets what goes through it. */
  injectReset(toClient: boolean, toServer: boolean): void {
    const kind = "rst";
    const rest = { kind, seq: 0, bytes: undefined, fin: false, ack: 0, window: 0 } as const;
    const connections = new Set([...this.#clientEnds.keys(), ...this.#serverEnds.keys()]);
    for (const connection of connections) {
      if (toClient) {
        this.#clientEnds.get(connection)?.receive({ connection, fromClient: false, ...rest });
      }
      if (toServer) {
        this.#serverEnds.get(connection)?.receive({ connection, fromClient: true, ...rest });
      }
    }
  }

  #sendSyn(attempt: Attempt): void {
    this.#transmit(this.#bare(attempt.connection, true, "syn"));
    attempt.retry = this.scheduler.after(SYN_RETRY_MS, () => this.#sendSyn(attempt));
  }

  #bare(connection: number, fromClient: boolean, kind: Segment["kind"]): Segment {
    const window = fromClient
      ? this.#clientTcp.receiveBufferBytes
      : this.#serverTcp.receiveBufferBytes;
    return { connection, fromClient, kind, seq: 0, bytes: undefined, fin: false, ack: 0, window };
  }

  #forget(attempt: Attempt): void {
    cancel(attempt.retry);
    this.#attempts.delete(attempt.connection);
  }

  #attemptOver(attempt: Attempt, outcome: { end: TcpEnd } | { code: string }): void {
    if (!this.#attempts.has(attempt.connection)) return;
    this.#forget(attempt);
    attempt.settle(outcome);
  }

  readonly #transmit = (segment: Segment): boolean => {
    if (segment.fromClient && this.localFault !== undefined) return false;
    const lane = segment.fromClient ? this.toServer : this.toClient;
    const { nowMs } = this.scheduler;
    const bytes = segment.bytes?.length ?? 0;
    const arrivalMs = lane.arrival(nowMs, bytes, this.#path, this.#random);
    if (arrivalMs !== undefined) {
      this.scheduler.after(arrivalMs - nowMs, () => this.#arrive(segment, lane));
    } else if (segment.fromClient && lane.blocked && this.icmpCode !== undefined) {
      this.#report(segment, this.icmpCode);
    }
    return true;
  };

  #report(segment: Segment, code: string): void {
    const { connection } = segment;
    // About probes nobody listens: their sequence numbers lie outside the window.
    if (segment.kind === "data" && segment.bytes === undefined && !segment.fin) return;
    this.scheduler.after(this.#path.delayMs, () => {
      if (segment.kind !== "syn") return this.#clientEnds.get(connection)?.icmp(code);
      const attempt = this.#attempts.get(connection);
      if (attempt !== undefined) this.#attemptOver(attempt, { code });
    });
  }

  #arrive(segment: Segment, lane: Lane): void {
    if (lane.blocked) return;
    if (segment.fromClient) this.#arriveAtServer(segment);
    else if (this.localFault === undefined) this.#arriveAtClient(segment);
  }

  #arriveAtServer(segment: Segment): void {
    if (!this.#server.up) return;
    const { connection } = segment;
    const end = this.#serverEnds.get(connection);
    const attempt = this.#serverAttempts.get(connection);
    if (attempt !== undefined) {
      this.#forgetOfServer(attempt);
      if (segment.kind === "rst") return attempt.settle({ code: "ECONNREFUSED" });
      const rttMs = this.scheduler.nowMs - attempt.startedAtMs;
      const made = this.#makeEnd(connection, false, rttMs, segment.window);
      made.acknowledge();
      return attempt.settle({ end: made });
    }
    if (segment.kind === "syn-ack" && end !== undefined) return end.acknowledge();
    if (segment.kind === "syn") {
      if (end === undefined && !this.#admit(segment)) return;
      this.#transmit(this.#bare(connection, false, "syn-ack"));
    } else if (end !== undefined) end.receive(segment);
    else if (segment.kind !== "rst") this.#transmit(this.#bare(connection, false, "rst"));
  }

  #admit({ connection, window }: Segment): boolean {
    const answer = this.#server.answerSyn();
    if (answer === "refuse") this.#transmit(this.#bare(connection, false, "rst"));
    if (answer !== "accept") return false;
    this.#server.established(this.#makeEnd(connection, false, 2 * this.#path.delayMs, window));
    return true;
  }

  #arriveAtClient(segment: Segment): void {
    const { connection } = segment;
    const attempt = this.#attempts.get(connection);
    const end = this.#clientEnds.get(connection);
    const halfOpen = this.#halfOpen.get(connection);
    if (segment.kind === "syn") return this.#synAtClient(segment, end, halfOpen);
    if (halfOpen !== undefined) return this.#acknowledged(segment, halfOpen);
    if (attempt !== undefined) {
      if (segment.kind === "rst") return this.#attemptOver(attempt, { code: "ECONNREFUSED" });
      const rttMs = this.scheduler.nowMs - attempt.startedAtMs;
      const made = this.#makeEnd(connection, true, rttMs, segment.window);
      this.#attemptOver(attempt, { end: made });
    } else if (end !== undefined) end.receive(segment);
    else if (segment.kind !== "rst") this.#transmit(this.#bare(connection, true, "rst"));
  }

  /** A SYN of the server: answered until the answer is acknowledged. */
  #synAtClient(segment: Segment, end: TcpEnd | undefined, halfOpen: HalfOpen | undefined): void {
    const { connection, window } = segment;
    if (end !== undefined) return; // Its answer was acknowledged: an old repetition.
    if (halfOpen !== undefined) {
      this.#transmit(this.#bare(connection, true, "syn-ack"));
      return;
    }
    if (this.#listener === undefined) {
      this.#transmit(this.#bare(connection, true, "rst"));
      return;
    }
    const made: HalfOpen = {
      startedAtMs: this.scheduler.nowMs,
      ...{ window, answers: 0, retry: undefined },
    };
    this.#halfOpen.set(connection, made);
    const answer = (): void => {
      if (made.answers++ === SYN_ACKS) return void this.#halfOpen.delete(connection);
      this.#transmit(this.#bare(connection, true, "syn-ack"));
      made.retry = this.scheduler.after(SYN_RETRY_MS, answer);
    };
    answer();
  }

  /** The handshake is over, one way or the other. */
  #acknowledged(segment: Segment, { startedAtMs, window, retry }: HalfOpen): void {
    const { connection } = segment;
    cancel(retry);
    this.#halfOpen.delete(connection);
    if (segment.kind === "rst") return;
    const made = this.#makeEnd(connection, true, this.scheduler.nowMs - startedAtMs, window);
    made.countsSyn = false;
    this.#listener?.(made);
    made.receive(segment);
  }

  #forgetOfServer(attempt: Attempt): void {
    cancel(attempt.retry);
    this.#serverAttempts.delete(attempt.connection);
  }

  #makeEnd(connection: number, isClient: boolean, rttMs: number, peerWindowBytes: number): TcpEnd {
    const ends = isClient ? this.#clientEnds : this.#serverEnds;
    const options = isClient ? this.#clientTcp : this.#serverTcp;
    const end = new TcpEnd(
      this.scheduler,
      this.#transmit,
      options,
      connection,
      isClient,
      rttMs,
      peerWindowBytes,
    );
    end.hidesAcks = end.hadHidden = isClient && this.hidesAcks;
    end.onGone = () => ends.delete(connection);
    ends.set(connection, end);
    return end;
  }
}

/** The error of a failed attempt. */
export function attemptError(code: string): WireError {
  return new WireError(code, `simulated server could not be connected: ${code}`);
}
