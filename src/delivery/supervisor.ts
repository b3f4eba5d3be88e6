/**
 * The one loop that owns every transition: idle, connecting, connected,
 * ending, backing off, closed. Everything else (a finished write, a new
 * packet, a timer) only wakes it.
 *
 * Invariants:
 * 1. There is at most one connection, and at most one attempt to make one.
 * 2. A packet is confirmed only after polls have found its peer alive and
 *    reading for `holdMs`, or by an orderly end ({@link SendWindow}).
 * 3. Progress resets the backoff; a mere connect does not.
 * 4. Every wait has an end: a deadline, a timer, or an event that must come.
 *
 * @module
 */

import { ClosedError, KernelCallError, messageOf, WireError } from "../base/errors.ts";
import type { Clock, DeliveryQueue, Dialer, Logger, Random, Wire } from "../base/ports.ts";
import { Backoff } from "./backoff.ts";
import { Connection, type ConnectionReading, type PathStats } from "./connection.ts";
import { describeVerdict, type LivenessLimits, type Verdict } from "./liveness.ts";
import { SendWindow, type SendWindowLimits } from "./send_window.ts";
import { WakeSignal } from "./wake_signal.ts";

/** How long the last steps of an orderly end may take: our FIN acked, the peer's here. */
const FIN_WAIT_MS = 1000;

/** What the sender is doing; see {@linkcode DeliveryStatus}. */
export type SenderState =
  /** Nothing to send and no connection. */
  | "idle"
  /** An attempt is under way. */
  | "connecting"
  /** A connection is up. */
  | "connected"
  /** A connection takes no more packets and is being finished in order. */
  | "ending"
  /** The last attempt or connection failed; the next attempt comes by itself. */
  | "backing-off"
  /** The end. What was not confirmed is on disk. */
  | "closed";

/** The bounds and times of a {@linkcode Supervisor}, all given. */
export interface SupervisorLimits extends LivenessLimits, SendWindowLimits {
  readonly connectTimeoutMs: number;
  readonly slowConnectTimeoutMs: number;
  readonly slowConnectEvery: number;
  readonly backoffFirstMs: number;
  readonly backoffCapMs: number;
  readonly connect: "on-demand" | "always";
  readonly onPeerFin: "reconnect" | "keep-sending";
}

/** Counters since the sender was opened, and what is under way now. */
export interface DeliveryStats {
  /** Packets given to the present connection and not drained. */
  readonly inFlightPackets: number;
  /** Bytes given to the present connection and not acknowledged. */
  readonly inFlightBytes: number;
  /** Packets drained whose `holdMs` has not passed. */
  readonly heldPackets: number;
  /** Packets whose last byte was acknowledged; one sent twice may count twice. */
  readonly drainedPackets: number;
  /** Bytes acknowledged, over all connections. */
  readonly ackedBytes: number;
  /** Packets sent again after an unclean end or a restart, each time they were. */
  readonly redeliveredPackets: number;
  /** Connections made. */
  readonly connections: number;
  /** Connection attempts that failed. */
  readonly failedAttempts: number;
  /** Bytes received from the peer. */
  readonly receivedBytes: number;
  /** The present connection as the kernel sees it; undefined while there is none. */
  readonly path: PathStats | undefined;
}

/** Published at each change. */
export interface DeliveryStatus {
  /** What the sender is doing. */
  readonly state: SenderState;
  /** The last verdict on the path. */
  readonly verdict: Verdict;
  /** The change in one sentence. */
  readonly words: string;
  /** How serious it is; the same as in the log. */
  readonly level: keyof Logger;
  /** What went wrong, where something did. */
  readonly error: Error | undefined;
}

/** Everything the supervisor reaches the world through. */
export interface SupervisorPorts {
  readonly queue: DeliveryQueue;
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly onStatus: (status: DeliveryStatus) => void;
  readonly onReceived: (chunk: Uint8Array) => void;
}

type Connecting = {
  readonly kind: "connecting";
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly controller: AbortController;
  outcome: { readonly wire: Wire } | { readonly error: unknown } | undefined;
};

type Ending = {
  readonly kind: "ending";
  readonly connection: Connection;
  readonly why: "peer-closed" | "closing";
  untilMs: number;
};

type State =
  | { readonly kind: "idle" }
  | Connecting
  | { readonly kind: "connected"; readonly connection: Connection }
  | Ending
  | { readonly kind: "backing-off"; readonly untilMs: number }
  | { readonly kind: "closed" };

interface DrainedWaiter {
  readonly throughId: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A handler has changed the state: call the next one at once. */
const AT_ONCE = -1;

/** Delivers one queue to one remote. Starts by itself, ends by {@linkcode close}. */
export class Supervisor {
  readonly #limits: SupervisorLimits;
  readonly #ports: SupervisorPorts;
  readonly #clock: Clock;
  readonly #window: SendWindow;
  readonly #backoff: Backoff;
  readonly #wakeSignal: WakeSignal;
  readonly #closed = Promise.withResolvers<void>();

  #state: State = { kind: "idle" };
  #verdict: Verdict = { kind: "healthy" };
  /** Set by {@linkcode close}. */
  #closeAtMs: number | undefined;
  #drainedWaiters: DrainedWaiter[] = [];
  #lastFailure: string | undefined;

  #drainedBefore = 0;
  #ackedBefore = 0;
  #connections = 0;
  #failedAttempts = 0;
  #receivedBytes = 0;

  /**
   * @param limits Bounds and times.
   * @param ports The world.
   * @param sentThroughId Ids up to here may have been on a wire in an earlier life.
   */
  constructor(limits: SupervisorLimits, ports: SupervisorPorts, sentThroughId: number) {
    this.#limits = limits;
    this.#ports = ports;
    this.#clock = ports.clock;
    this.#backoff = new Backoff(limits.backoffFirstMs, limits.backoffCapMs, ports.random);
    this.#wakeSignal = new WakeSignal(ports.clock);
    this.#window = new SendWindow({
      queue: ports.queue,
      clock: ports.clock,
      limits,
      sentThroughId,
      onActivity: () => this.#wakeSignal.wake(),
      // One line an outage of the disk is news, one line a second is noise.
      onQueueFault: (words, error, again) =>
        this.#publish(again ? "debug" : "error", `${words}: ${messageOf(error)}`, error),
    });
    // Whoever waits for the end is told; nobody has to.
    this.#closed.promise.catch(() => {});
    void this.#run();
  }

  /** Resolves at the end of {@linkcode close}; rejects if the sender cannot go on. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** What the sender is doing. */
  get state(): SenderState {
    return this.#state.kind;
  }

  /** The last verdict on the path. */
  get verdict(): Verdict {
    return this.#verdict;
  }

  /** Counters and what is under way. */
  get stats(): DeliveryStats {
    const connection = this.#connection;
    return {
      inFlightPackets: connection?.inFlightPackets ?? 0,
      inFlightBytes: connection?.inFlightBytes ?? 0,
      heldPackets: this.#window.heldPackets,
      drainedPackets: this.#drainedBefore + (connection?.drainedPackets ?? 0),
      ackedBytes: this.#ackedBefore + (connection?.ackedBytes ?? 0),
      redeliveredPackets: this.#window.redeliveredPackets,
      connections: this.#connections,
      failedAttempts: this.#failedAttempts,
      receivedBytes: this.#receivedBytes,
      path: connection?.path,
    };
  }

  /**
   * Resolves once every packet that is on disk now has drained.
   *
   * @throws {ClosedError} The sender was closed before.
   */
  drained(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#state.kind === "closed") reject(new ClosedError("The sender is closed."));
    else this.#drainedWaiters.push({ throughId: this.#ports.queue.lastId, resolve, reject });
    this.#wakeSignal.wake();
    return promise;
  }

  /**
   * Delivers what is on disk now, for `deliverTimeoutMs` at most; then half-closes and
   * gives the peer up to a second for its FIN: a program that closes has read
   * everything, or its kernel would send a reset. What is not confirmed stays on disk.
   */
  close(deliverTimeoutMs: number): Promise<void> {
    const closeAtMs = this.#clock.nowMs() + deliverTimeoutMs;
    if (this.#closeAtMs === undefined) this.#window.stopAfter(this.#ports.queue.lastId);
    this.#closeAtMs = Math.min(this.#closeAtMs ?? Infinity, closeAtMs);
    this.#wakeSignal.wake();
    return this.#closed.promise;
  }

  async #run(): Promise<void> {
    const unsubscribe = this.#ports.queue.subscribe(() => this.#wakeSignal.wakeSoon());
    // Whoever made us holds us by the time the first status comes.
    await undefined;
    try {
      while (this.#state.kind !== "closed") {
        const waitMs = this.#step();
        const nowMs = this.#clock.nowMs();
        this.#window.removeConfirmed(nowMs);
        this.#resolveDrained();
        if (waitMs === AT_ONCE) continue;
        await this.#wakeSignal.wait(
          Math.min(waitMs, this.#window.dueInMs(nowMs), this.#closeInMs(nowMs)),
        );
      }
      await this.#window.finishRemovals();
      this.#closed.resolve();
    } catch (error) {
      this.#connection?.dispose();
      if (this.#state.kind === "connecting") this.#state.controller.abort();
      this.#enter({ kind: "closed" }, "error", `the sender stopped: ${messageOf(error)}`, error);
      this.#closed.reject(error);
    } finally {
      unsubscribe();
      for (const { reject } of this.#drainedWaiters) {
        reject(new ClosedError("The sender was closed before everything had drained."));
      }
    }
  }

  #step(): number {
    const nowMs = this.#clock.nowMs();
    const state = this.#state;
    switch (state.kind) {
      case "idle":
        return this.#idle(nowMs);
      case "connecting":
        return this.#connecting(state, nowMs);
      case "connected":
        return this.#connected(state.connection, nowMs);
      case "ending":
        return this.#ending(state, nowMs);
      case "backing-off":
        return this.#backingOff(state.untilMs, nowMs);
      case "closed":
        return AT_ONCE;
      default:
        throw new TypeError(`Unknown state ${JSON.stringify(state satisfies never)}`);
    }
  }

  #idle(nowMs: number): number {
    if (this.#mayClose(nowMs)) return this.#close();
    if (!this.#wantsConnection) return Infinity;
    return this.#dial(nowMs);
  }

  #backingOff(untilMs: number, nowMs: number): number {
    if (this.#mayClose(nowMs)) return this.#close();
    if (!this.#wantsConnection) return this.#enter({ kind: "idle" }, "debug", "nothing to send");
    if (nowMs < untilMs) return untilMs - nowMs;
    return this.#dial(nowMs);
  }

  #dial(nowMs: number): number {
    const limits = this.#limits;
    // Most attempts are short, so that a heal is noticed soon; a path slower
    // than that gets its chance every few attempts.
    const turn = (this.#backoff.failures + 1) % limits.slowConnectEvery;
    const timeoutMs = turn === 0 ? limits.slowConnectTimeoutMs : limits.connectTimeoutMs;
    const state: Connecting = {
      kind: "connecting",
      startedAtMs: nowMs,
      deadlineMs: nowMs + timeoutMs,
      controller: new AbortController(),
      outcome: undefined,
    };
    this.#ports.dialer.dial(state.controller.signal).then((wire) => {
      // An answer that came too late belongs to nobody.
      if (this.#state === state) state.outcome = { wire };
      else wire.abort();
    }, (error) => {
      state.outcome = { error };
    }).finally(() => this.#wakeSignal.wake());
    return this.#enter(state, "debug", `connecting to ${this.#ports.dialer.remote}`);
  }

  #connecting(state: Connecting, nowMs: number): number {
    const { outcome, deadlineMs, startedAtMs, controller } = state;
    if (outcome === undefined) {
      if (nowMs < deadlineMs && !this.#mustClose(nowMs)) return deadlineMs - nowMs;
      controller.abort();
      const seconds = ((nowMs - startedAtMs) / 1000).toFixed(1);
      const error = new WireError("ETIMEDOUT", `no answer within ${seconds} s`);
      return this.#attemptFailed(error, startedAtMs, nowMs);
    }
    try {
      if ("error" in outcome) throw outcome.error;
      return this.#established(outcome.wire, nowMs);
    } catch (error) {
      // Anything else, such as a refused option or permission, will not go away by itself.
      if (!(error instanceof WireError || error instanceof KernelCallError)) throw error;
      return this.#attemptFailed(error, startedAtMs, nowMs);
    }
  }

  #established(wire: Wire, nowMs: number): number {
    let connection: Connection;
    try {
      connection = new Connection({
        wire,
        clock: this.#clock,
        limits: this.#limits,
        afterId: this.#window.assignedId,
        onEnd: () => this.#wakeSignal.wake(),
        // With more to send, what was acknowledged meanwhile makes room for it.
        onWritten: () =>
          this.#window.hasMore ? this.#wakeSignal.wake() : this.#wakeSignal.wakeSoon(),
        onReceived: (chunk) => {
          this.#receivedBytes += chunk.length;
          this.#ports.onReceived(chunk);
        },
      });
    } catch (error) {
      wire.abort();
      throw error;
    }
    this.#connections++;
    this.#lastFailure = undefined;
    this.#verdict = { kind: "healthy" };
    this.#window.connected();
    this.#window.topUp(connection, nowMs);
    return this.#enter(
      { kind: "connected", connection },
      "info",
      `connected to ${wire.remoteAddress} from ${wire.localAddress}`,
    );
  }

  #attemptFailed(error: WireError | KernelCallError, startedAtMs: number, nowMs: number): number {
    this.#failedAttempts++;
    // Counted from the start of the attempt: one that took its whole second
    // has waited already, and a heal must not find us asleep.
    const untilMs = Math.max(nowMs, startedAtMs + this.#backoff.nextDelayMs());
    const words = `cannot connect to ${this.#ports.dialer.remote}: ${error.message}`;
    // One line an outage is news, one line a second is noise.
    const level = words === this.#lastFailure ? "debug" : "warn";
    this.#lastFailure = words;
    return this.#enter({ kind: "backing-off", untilMs }, level, words, error);
  }

  #connected(connection: Connection, nowMs: number): number {
    const reading = this.#poll(connection, nowMs);
    if (reading.end !== undefined) return this.#ended(connection, reading.end, nowMs);
    // Dead, and its errno still on the way: what it held must not be confirmed any more.
    if (!reading.alive) return reading.pollInMs;
    this.#window.confirmHeld(nowMs - reading.doubtMs);
    if (reading.peerClosed && this.#limits.onPeerFin === "reconnect") {
      connection.finish();
      const untilMs = nowMs + FIN_WAIT_MS;
      return this.#enter(
        { kind: "ending", connection, why: "peer-closed", untilMs },
        "info",
        "the peer closed the connection; finishing it in order",
      );
    }
    this.#window.topUp(connection, nowMs);
    const allDrained = !this.#window.hasMore && connection.inFlightPackets === 0;
    if (this.#closeAtMs !== undefined && (allDrained || this.#mustClose(nowMs))) {
      connection.finish();
      const holdUntilMs = Math.min(this.#closeAtMs, nowMs + this.#limits.holdMs);
      const untilMs = Math.max(nowMs + FIN_WAIT_MS, holdUntilMs);
      return this.#enter(
        { kind: "ending", connection, why: "closing", untilMs },
        "debug",
        "half-closed; waiting for the peer to close",
      );
    }
    return reading.pollInMs;
  }

  #ending(state: Ending, nowMs: number): number {
    const { connection, why } = state;
    const reading = this.#poll(connection, nowMs);
    if (reading.end !== undefined) return this.#ended(connection, reading.end, nowMs);
    // Dead, and its errno still on the way: what it held must not be confirmed any more.
    if (!reading.alive) return reading.pollInMs;
    this.#window.confirmHeld(nowMs - reading.doubtMs);
    const bytesLeft = connection.inFlightBytes > 0;
    if (why === "closing") {
      const done = !bytesLeft && this.#window.heldPackets === 0;
      if (!done && nowMs < state.untilMs) return Math.min(reading.pollInMs, state.untilMs - nowMs);
      this.#letGo(connection);
      return this.#close();
    }
    if (bytesLeft && this.#mustClose(nowMs)) {
      this.#letGo(connection);
      return this.#close();
    }
    // A half-closed peer may go on acknowledging; `judge` says when it is dead.
    if (bytesLeft) state.untilMs = nowMs + FIN_WAIT_MS;
    if (nowMs >= state.untilMs) return this.#ended(connection, "unclean", nowMs);
    return Math.min(reading.pollInMs, state.untilMs - nowMs);
  }

  #poll(connection: Connection, nowMs: number): ConnectionReading {
    const reading = connection.poll();
    const before = this.#verdict.kind;
    this.#verdict = reading.verdict;
    if (connection.drainedPackets > 0 && reading.progressed) this.#backoff.reset();
    this.#window.holdDrained(connection, nowMs);
    if (reading.end === undefined && reading.verdict.kind !== before) {
      const level =
        reading.verdict.kind === "peer-stalled" || reading.verdict.kind === "local-fault"
          ? "warn"
          : "debug";
      this.#publish(level, describeVerdict(reading.verdict));
    }
    return reading;
  }

  /** A connection is over: confirm or rewind, and decide what comes next. */
  #ended(connection: Connection, end: "orderly" | "unclean", nowMs: number): number {
    const again = connection.inFlightPackets + this.#window.heldPackets;
    const fruitful = end === "orderly" && connection.drainedPackets > 0;
    if (end === "orderly") this.#window.confirmDrained();
    else if (this.#verdict.kind !== "local-fault") this.#window.suspect(connection);
    this.#letGo(connection);
    const words = end === "orderly"
      ? "the connection ended in order"
      : `connection given up: ${describeVerdict(this.#verdict)}` +
        (again === 0 ? "" : `; ${again} packets will be sent again`);
    const level = end === "orderly" ? "info" : "warn";
    if (!this.#wantsConnection) return this.#enter({ kind: "idle" }, level, words);
    const untilMs = nowMs + (fruitful ? 0 : this.#backoff.nextDelayMs());
    return this.#enter({ kind: "backing-off", untilMs }, level, words);
  }

  #letGo(connection: Connection): void {
    this.#drainedBefore += connection.drainedPackets;
    this.#ackedBefore += connection.ackedBytes;
    this.#window.rewind();
    connection.dispose();
  }

  #close(): number {
    return this.#enter({ kind: "closed" }, "info", "closed");
  }

  get #connection(): Connection | undefined {
    return this.#state.kind === "connected" || this.#state.kind === "ending"
      ? this.#state.connection
      : undefined;
  }

  get #wantsConnection(): boolean {
    return this.#window.hasMore ||
      (this.#limits.connect === "always" && this.#closeAtMs === undefined);
  }

  #mustClose(nowMs: number): boolean {
    return this.#closeAtMs !== undefined && nowMs >= this.#closeAtMs;
  }

  #mayClose(nowMs: number): boolean {
    return this.#mustClose(nowMs) || (this.#closeAtMs !== undefined && !this.#window.hasMore);
  }

  /** Until {@linkcode close} gives up; nothing once it has. */
  #closeInMs(nowMs: number): number {
    return this.#closeAtMs === undefined || this.#mustClose(nowMs)
      ? Infinity
      : this.#closeAtMs - nowMs;
  }

  #resolveDrained(): void {
    if (this.#drainedWaiters.length === 0) return;
    this.#drainedWaiters = this.#drainedWaiters.filter(({ throughId, resolve }) => {
      if (!this.#window.hasDrained(throughId, this.#connection)) return true;
      resolve();
      return false;
    });
  }

  #enter(state: State, level: keyof Logger, words: string, error?: unknown): number {
    this.#state = state;
    this.#publish(level, words, error);
    return AT_ONCE;
  }

  #publish(level: keyof Logger, words: string, error?: unknown): void {
    this.#ports.logger[level](words);
    this.#ports.onStatus({
      state: this.#state.kind,
      verdict: this.#verdict,
      words,
      level,
      error: error instanceof Error ? error : undefined,
    });
  }
}
