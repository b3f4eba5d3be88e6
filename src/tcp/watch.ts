/**
 * Watches a connection that somebody else reads and writes: the judge of the sender
 * (`src/delivery/liveness.ts`), fed from the kernel's counters alone.
 *
 * What was written is `bytesAcked + Send-Q`, what is under way is Send-Q. Our own FIN counts as
 * one byte in both, and has to be acknowledged as well.
 *
 * SO_ERROR is never asked: it would take the error away from the owner's read, which would then
 * look like an orderly end (kernel_facts, section 3).
 */

import { KernelCallError } from "../base/errors.ts";
import { type Clock, type LocalFault, TcpState } from "../base/ports.ts";
import { Ledger } from "../delivery/ledger.ts";
import {
  EVIDENCE_AFTER_MS,
  freshMemory,
  judge,
  type LivenessLimits,
  type LivenessMemory,
  MAX_COUNTED_GAP_MS,
  NOTE_LINK_INTERVAL_MS,
  observe,
} from "../delivery/liveness.ts";
import { captureLocalPath, findLocalFault, type LocalPath } from "../kernel/local_fault.ts";
import { readSocketOptions } from "../kernel/socket_options.ts";
import { resetConnection } from "../kernel/tcp_wire.ts";
import { type Counters, EndWitness, readCounters } from "./counters.ts";
import { closed, type LocatedSocket } from "./located_socket.ts";
import { DeadConnectionError, type WatchVerdict } from "./verdict.ts";

/** Below this a busy process would do nothing else. */
const MIN_POLL_MS = 10;
const MAX_POLL_MS = 100;

type JudgedVerdict = Exclude<WatchVerdict, { kind: "died" }>;

/** Options of {@linkcode watch}. */
export interface WatchOptions {
  /**
   * Silence that is death, in milliseconds, 100 to 2,073,600,000: so long, or for two round
   * trips where these are longer, not a sign of the peer came back while bytes were under way.
   * A peer that lives and does not read is not silent.
   *
   * @default {3000}
   */
  readonly stallTimeoutMs?: number;
  /**
   * How long a peer that lives may read nothing before the connection is given up, in
   * milliseconds; `Infinity`: for ever.
   *
   * @default {300_000}
   */
  readonly peerStallTimeoutMs?: number;
  /**
   * Whether the connection is reset when it is given up: reads and writes fail at once, and
   * nothing old can arrive once the path is back. With `false` only the signal tells.
   *
   * @default {true}
   */
  readonly reset?: boolean;
}

/**
 * A connection that is being watched. Iterated, it yields the verdict as it is and then each
 * time that its kind changes; a slow reader gets the newest. The iteration ends when the
 * connection is dead, has been closed, or is not watched any more.
 */
export interface Watch extends AsyncIterable<WatchVerdict>, Disposable {
  /**
   * Aborted when the connection is dead, with a `DeadConnectionError` as its reason; never when
   * it was closed in order, or by its owner. `conn.readable`, `conn.writable` and the sockets of
   * `node:net` close themselves on an error of the kernel's: then that tells of the death.
   */
  readonly signal: AbortSignal;
  /** How it is doing now. */
  readonly verdict: WatchVerdict;
  /** Ends the watching. The connection stays as it is. */
  [Symbol.dispose](): void;
}

/** What a {@linkcode SocketWatch} works with. */
export interface SocketWatchOptions {
  readonly socket: LocatedSocket;
  readonly clock: Clock;
  readonly limits: Pick<LivenessLimits, "stallTimeoutMs" | "peerStallTimeoutMs">;
  /** Whether to reset what is given up. */
  readonly reset: boolean;
}

/** {@linkcode Watch}, with the world handed in. */
export class SocketWatch implements Watch {
  readonly #socket: LocatedSocket;
  readonly #clock: Clock;
  readonly #limits: LivenessLimits;
  readonly #reset: boolean;
  #path: LocalPath;
  readonly #pollMs: number;
  readonly #controller = new AbortController();
  readonly #witness = new EndWitness();
  readonly #ledger = new Ledger(0);
  readonly #baseBytes: number;

  #memory: LivenessMemory;
  #verdict: WatchVerdict = { kind: "healthy" };
  #localFault: LocalFault | undefined;
  #evidenceAtMs = -Infinity;
  #over = false;
  #changes = 0;
  #news = Promise.withResolvers<void>();
  #cancelTimer = () => {};

  /**
   * Begins with a first reading.
   *
   * @throws {ClosedError} The connection has been closed.
   * @throws {KernelCallError} The kernel refuses a call that the watching needs.
   */
  constructor({ socket, clock, limits, reset }: SocketWatchOptions) {
    this.#socket = socket;
    this.#clock = clock;
    this.#limits = { ...limits, keepAlive: undefined };
    this.#reset = reset;
    this.#pollMs = Math.min(MAX_POLL_MS, Math.max(MIN_POLL_MS, limits.stallTimeoutMs / 30));
    this.#memory = freshMemory(clock.nowMs());
    const first = socket.read((fd) => ({
      counters: readCounters(fd),
      options: readSocketOptions(fd),
    }));
    if (first === undefined) throw closed(socket.addresses);
    const { counters, options } = first.value;
    this.#baseBytes = counters.bytesAcked;
    const { addresses, found } = socket;
    this.#path = captureLocalPath({
      local: found.local,
      remote: found.remote,
      remoteHostname: addresses.remoteAddr.hostname,
      bindToDevice: options.bindToDevice,
      mark: options.mark ?? 0,
    });
    this.#take(counters);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get verdict(): WatchVerdict {
    return this.#verdict;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchVerdict, void> {
    let seen = -1;
    for (;;) {
      if (seen !== this.#changes) {
        seen = this.#changes;
        yield this.#verdict;
      } else if (this.#over) {
        return;
      } else {
        await this.#news.promise;
      }
    }
  }

  [Symbol.dispose](): void {
    this.#end();
  }

  #poll(): void {
    let reading: { readonly value: Counters } | undefined;
    try {
      reading = this.#socket.read(readCounters);
    } catch (error) {
      if (!(error instanceof KernelCallError)) throw error;
      // What worked at the start and does not now: nobody watches any more, so say it.
      const fault = { kind: "unreadable", device: undefined, words: error.message } as const;
      this.#die({ kind: "local-fault", fault, silenceMs: this.#memory.silenceMs });
      return;
    }
    if (reading === undefined) this.#end();
    else this.#take(reading.value);
  }

  #take(counters: Counters): void {
    if (counters.state === TcpState.CLOSE) {
      if (this.#witness.endedInOrder(counters)) {
        this.#tell({ kind: "peer-closed" });
        this.#end();
      } else {
        this.#die({ kind: "died" });
      }
      return;
    }
    this.#witness.note(counters);
    const { verdict, giveUp } = this.#judge(counters, this.#clock.nowMs());
    if (giveUp) {
      if (this.#reset) this.#resetNow();
      this.#die(verdict);
      return;
    }
    this.#tell(verdict);
    // While nothing is under way, nothing can be judged: only a new write is to be noticed.
    const idlePollMs = Math.min(MAX_COUNTED_GAP_MS, 2.5 * this.#pollMs);
    const pollMs = counters.sendQueueBytes > 0 ? this.#pollMs : idlePollMs;
    this.#cancelTimer = this.#clock.setTimer(pollMs, () => this.#poll());
  }

  #judge(counters: Counters, nowMs: number): { verdict: JudgedVerdict; giveUp: boolean } {
    const writtenBytes = counters.bytesAcked - this.#baseBytes + counters.sendQueueBytes;
    const newBytes = Math.max(0, writtenBytes - this.#ledger.writtenBytes);
    if (newBytes > 0) {
      this.#ledger.assign(0, newBytes);
      this.#ledger.wrote(newBytes, nowMs);
    }
    const progressed = this.#ledger.acknowledge(counters.bytesAcked - this.#baseBytes);
    const observation = {
      nowMs,
      sample: counters,
      ackedBytes: this.#ledger.ackedBytes,
      unackedBytes: counters.sendQueueBytes,
      oldestUnackedMs: nowMs - (this.#ledger.oldestUnackedAtMs ?? nowMs),
      progressed,
      asking: false,
    };
    this.#memory = observe(this.#memory, observation);
    this.#gatherEvidence(nowMs, counters.lastAckMs);
    const evidence = { softError: undefined, localFault: this.#localFault };
    const { verdict, giveUp } = judge(this.#memory, observation, evidence, this.#limits);
    return { verdict: asWatched(verdict), giveUp };
  }

  /** Looks for the cause of a silence: never proof, only words for a verdict. */
  #gatherEvidence(nowMs: number, lastAckMs: number): void {
    if (this.#memory.silenceMs < EVIDENCE_AFTER_MS) {
      this.#localFault = undefined;
      if (lastAckMs < EVIDENCE_AFTER_MS && nowMs - this.#evidenceAtMs >= NOTE_LINK_INTERVAL_MS) {
        this.#evidenceAtMs = nowMs;
        this.#path = captureLocalPath(this.#path);
      }
    } else if (nowMs - this.#evidenceAtMs >= EVIDENCE_AFTER_MS) {
      this.#evidenceAtMs = nowMs;
      this.#localFault = findLocalFault(this.#path);
    }
  }

  #resetNow(): void {
    try {
      this.#socket.change(resetConnection);
    } catch (error) {
      // No descriptor left for it: the signal tells all the same.
      if (!(error instanceof KernelCallError)) throw error;
    }
  }

  #tell(verdict: WatchVerdict): void {
    const isNews = verdict.kind !== this.#verdict.kind;
    this.#verdict = verdict;
    if (!isNews) return;
    this.#changes++;
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  #die(verdict: WatchVerdict): void {
    this.#tell(verdict);
    this.#end();
    this.#controller.abort(new DeadConnectionError(verdict));
  }

  #end(): void {
    this.#over = true;
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    this.#news.resolve();
  }
}

/** The judge has more kinds of verdict, which come from what only a sender knows. */
function asWatched(verdict: ReturnType<typeof judge>["verdict"]): JudgedVerdict {
  switch (verdict.kind) {
    case "healthy":
    case "slow":
    case "peer-stalled":
    case "peer-closed":
    case "local-fault":
      return verdict;
    case "path-dead":
      return { kind: "path-dead", silenceMs: verdict.silenceMs };
    default:
      throw new TypeError(`The judge says ${verdict.kind} of a connection that is only watched.`);
  }
}
