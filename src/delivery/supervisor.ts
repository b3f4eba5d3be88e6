/**
 * The one loop that owns every transition. Everything else (a finished write, a new
 * packet, a timer) only wakes it.
 *
 * Invariants:
 * 1. There is at most one connection, and at most one attempt to make one.
 * 2. A confirmed packet resets the backoff; neither a connect nor an
 *    acknowledgement does, for a server may acknowledge and reset for ever.
 * 3. Every wait has an end: a deadline, a timer, or an event that must come.
 */

import { ClosedError, inPackets, messageOf, PacketRefusedError } from "../base/errors.ts";
import { isLasting } from "../base/lasting.ts";
import { abortQuietly } from "../base/own_end.ts";
import type { Clock, DeliveryQueue, Dialer, Logger, Random } from "../base/ports.ts";
import type { Opened } from "../session/open.ts";
import type { Answers } from "./answers.ts";
import { Attempt } from "./attempt.ts";
import { Backoff, RefusalPauses } from "./backoff.ts";
import {
  confirmedBy,
  Connection,
  type ConnectionLimits,
  type ConnectionReading,
} from "./connection.ts";
import { DrainedWaiters } from "./drained_waiters.ts";
import { describeVerdict, isNews, levelOf, type Verdict, type VerdictKind } from "./liveness.ts";
import { SendWindow, type SendWindowLimits } from "./send_window.ts";
import {
  type DeliveryStats,
  type DeliveryStatus,
  type SenderState,
  ToldFailures,
} from "./status.ts";
import { EarlyCloses } from "./suspects.ts";
import { WakeSignal } from "./wake_signal.ts";

/** How long a peer that has sent its FIN, or was sent ours, is waited for. */
const FIN_WAIT_MS = 1000;
/** At the latest while packets wait: others may take them away, of which nobody is told. */
const WAITING_STEP_MS = 1000;
/** Removals that fail for so long are a verdict, and not one line in a log. */
const REMOVAL_STUCK_MS = 5000;

export interface SupervisorLimits extends ConnectionLimits, SendWindowLimits {
  readonly lookUpTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly slowConnectTimeoutMs: number;
  readonly slowConnectEvery: number;
  readonly backoffFirstMs: number;
  readonly backoffCapMs: number;
  readonly connect: "on-demand" | "always";
}

export interface SupervisorPorts {
  readonly queue: DeliveryQueue;
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly onStatus: (status: DeliveryStatus) => void;
  readonly onReceived: (chunk: Uint8Array) => void;
}

type Ending = {
  readonly kind: "ending";
  readonly connection: Connection;
  readonly why: "peer-closed" | "closing";
  untilMs: number;
};

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly attempt: Attempt }
  | { readonly kind: "connected"; readonly connection: Connection }
  | Ending
  | { readonly kind: "backing-off"; readonly untilMs: number }
  | { readonly kind: "closed" };

/** On attempts: the next one, or a connection, has something newer to say. */
const OF_AN_ATTEMPT: ReadonlySet<VerdictKind> = new Set<VerdictKind>([
  "self-connected",
  "session-refused",
  "lookup-hangs",
]);

/** The state has changed: call its handler at once. */
const AT_ONCE = -1;

/** Delivers one queue to one remote. Starts by itself, ends by `close`. */
export class Supervisor {
  /** Those of the present connection or attempt. */
  #limits: SupervisorLimits;
  /** Those of the next one. */
  #nextLimits: SupervisorLimits;
  readonly #ports: SupervisorPorts;
  readonly #clock: Clock;
  readonly #window: SendWindow;
  readonly #backoff: Backoff;
  /** For sessions they begin anew once one is open, for packets once one is accepted. */
  readonly #refusalPauses: RefusalPauses;
  #toldUnknownKey = false; // It is news once.
  readonly #wakeSignal: WakeSignal;
  readonly #closed = Promise.withResolvers<void>();

  #state: State = { kind: "idle" };
  #verdict: Verdict = { kind: "healthy" };
  /** Set by `close`. */
  #closeAtMs: number | undefined;
  readonly #drainedWaiters = new DrainedWaiters();
  readonly #toldFailures = new ToldFailures();
  readonly #earlyCloses: EarlyCloses;
  /** Whether the present connection has confirmed anything. */
  #confirmedHere = false;
  #changes = 0;
  #drainedBefore = 0;
  #confirmedBefore = 0;
  #ackedBefore = 0;
  #connections = 0;
  #failedAttempts = 0;
  #receivedBytes = 0;

  /** @param sentThroughId Ids up to here may have been on a wire in an earlier life. */
  constructor(limits: SupervisorLimits, ports: SupervisorPorts, sentThroughId: number) {
    this.#limits = limits;
    this.#nextLimits = limits;
    this.#ports = ports;
    this.#clock = ports.clock;
    this.#backoff = new Backoff(limits.backoffFirstMs, limits.backoffCapMs, ports.random);
    this.#refusalPauses = new RefusalPauses(this.#backoff, ports);
    this.#wakeSignal = new WakeSignal(ports.clock);
    this.#earlyCloses = new EarlyCloses(confirmedBy(limits));
    this.#window = new SendWindow({
      queue: ports.queue,
      clock: ports.clock,
      limits,
      sentThroughId,
      onActivity: () => this.#wakeSignal.wake(),
      // One line an outage of the disk is news, one line a second is noise.
      onQueueFault: (words, error, again) =>
        this.#publish(again ? "debug" : "error", `${words}: ${messageOf(error)}`, error),
      onUnsendable: (words, error) => this.#publish("warn", words, error),
    });
    // Whoever waits for the end is told; nobody has to.
    this.#closed.promise.catch(() => {});
    void this.#run();
  }

  /** Resolves at the end of `close`; rejects if the sender cannot go on. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get state(): SenderState {
    return this.#state.kind;
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  get readFailure(): string | undefined {
    // Nothing is read without one.
    return this.#connection && this.#window.readFailure;
  }

  /** Grows whenever `Supervisor.stats` may change. */
  get changes(): number {
    return this.#changes;
  }

  get confirmedPackets(): number {
    return this.#confirmedBefore + (this.#connection?.confirmation.confirmedPackets ?? 0);
  }

  get stats(): DeliveryStats {
    const connection = this.#connection;
    return {
      inFlightPackets: connection?.inFlightPackets ?? 0,
      inFlightBytes: connection?.inFlightBytes ?? 0,
      heldPackets: connection?.confirmation.heldPackets ?? 0,
      confirmedBy: confirmedBy(this.#limits),
      drainedPackets: this.#drainedBefore + (connection?.drainedPackets ?? 0),
      ackedBytes: this.#ackedBefore + (connection?.ackedBytes ?? 0),
      confirmedPackets: this.confirmedPackets,
      redeliveredPackets: this.#window.redeliveredPackets,
      connections: this.#connections,
      failedAttempts: this.#failedAttempts,
      receivedBytes: this.#receivedBytes,
      path: connection?.path,
    };
  }

  /** See `Sender.drained`. */
  async drained(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#state.kind === "closed") throw new ClosedError("The sender is closed.");
    const drained = this.#drainedWaiters.wait(this.#ports.queue.lastId, signal);
    this.#wakeSignal.wake();
    await drained;
  }

  /**
   * Changes bounds and times: the pace at once, everything else with the next connection, so
   * that each is judged by what it was begun with; also one that is waited for by then. The
   * backoff between attempts and `maxAttempts` stay.
   */
  reconfigure(limits: SupervisorLimits): void {
    this.#nextLimits = limits;
    this.#window.setPace(limits, limits.backlogPace);
    this.#wakeSignal.wake();
  }

  /** See `Sender.close`. */
  close(deliverTimeoutMs: number): Promise<void> {
    const closeAtMs = this.#clock.nowMs() + deliverTimeoutMs;
    if (this.#closeAtMs === undefined) this.#window.stopAfter(this.#ports.queue.lastId);
    this.#closeAtMs = Math.min(this.#closeAtMs ?? Infinity, closeAtMs);
    this.#wakeSignal.wake();
    return this.#closed.promise;
  }

  async #run(): Promise<void> {
    const wake = () => this.#wakeSignal.wakeSoon();
    const unsubscribe = this.#ports.queue.subscribe(wake, wake);
    // Whoever made us holds us by the time the first status comes.
    await undefined;
    try {
      while (this.#state.kind !== "closed") {
        const waitMs = this.#step();
        if (this.#needsQueue) this.#ports.queue.assertOpen();
        const nowMs = this.#clock.nowMs();
        this.#window.removeConfirmed(nowMs);
        this.#window.throwIfBroken();
        this.#judgeRemoval(nowMs);
        this.#drainedWaiters.resolve((id) => this.#window.hasDrained(id, this.#connection));
        if (waitMs === AT_ONCE) continue;
        const dueInMs = Math.min(this.#window.dueInMs(nowMs), this.#closeInMs(nowMs));
        await this.#wakeSignal.wait(Math.min(waitMs, dueInMs));
      }
      await this.#window.finishRemovals();
      this.#closed.resolve();
    } catch (error) {
      // What cannot be given back neither hides why it stops, nor keeps anybody waiting.
      await this.#giveBack(error).catch(() => {});
      this.#enter({ kind: "closed" }, "error", `the sender stopped: ${messageOf(error)}`, error);
      this.#closed.reject(error);
    } finally {
      unsubscribe();
      this.#drainedWaiters.rejectAll();
    }
  }

  async #giveBack(error: unknown): Promise<void> {
    if (this.#state.kind === "connecting") this.#state.attempt.abort();
    try {
      this.#connection?.dispose();
    } finally {
      // What was answered before it is not sent again.
      if (error instanceof PacketRefusedError) await this.#window.finishRemovals();
    }
  }

  #step(): number {
    this.#changes++;
    const nowMs = this.#clock.nowMs();
    const state = this.#state;
    switch (state.kind) {
      case "idle":
        return this.#idle(nowMs);
      case "connecting":
        return this.#connecting(state.attempt, nowMs);
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
    return this.#dial();
  }

  #backingOff(untilMs: number, nowMs: number): number {
    if (this.#mayClose(nowMs)) return this.#close();
    if (!this.#wantsConnection) return this.#enter({ kind: "idle" }, "debug", "nothing to send");
    if (nowMs < untilMs) return untilMs - nowMs;
    return this.#dial();
  }

  #dial(): number {
    const limits = this.#takeLimits();
    // Most are short, so that a heal is noticed soon; a slow path gets one every few attempts.
    const failures = this.#ports.dialer.choice?.failuresOfNext() ?? this.#backoff.failures;
    const turn = (failures + 1) % limits.slowConnectEvery;
    const timeoutMs = turn === 0 ? limits.slowConnectTimeoutMs : limits.connectTimeoutMs;
    const attempt = new Attempt({
      dialer: this.#ports.dialer,
      clock: this.#clock,
      session: () => this.#takeLimits().session,
      lookUpTimeoutMs: limits.lookUpTimeoutMs,
      connectTimeoutMs: timeoutMs,
      onNews: () => this.#wakeSignal.wake(),
    });
    const { remote, waits } = this.#ports.dialer;
    return this.#enter(
      { kind: "connecting", attempt },
      waits ? "info" : "debug",
      waits ? `waiting for a connection on ${remote}` : `connecting to ${remote}`,
    );
  }

  /** From here on they hold, with the pauses after refusals that belong to them. */
  #takeLimits(): SupervisorLimits {
    this.#refusalPauses.bound(this.#nextLimits);
    return this.#limits = this.#nextLimits;
  }

  #connecting(attempt: Attempt, nowMs: number): number {
    // Who only waits is not waited for at the end, unless there is something to send.
    const mustEnd = this.#mustClose(nowMs) ||
      (this.#ports.dialer.waits === true && this.#mayClose(nowMs));
    const result = attempt.look(nowMs, mustEnd);
    switch (result.kind) {
      case "waiting":
        return result.waitMs;
      case "opened":
        return this.#established(result.opened, nowMs);
      case "failed":
        return this.#attemptFailed(result.error, result.startedAtMs, nowMs, result.verdict);
      default:
        throw new TypeError(`Unknown result ${JSON.stringify(result satisfies never)}`);
    }
  }

  #established(opened: Opened, nowMs: number): number {
    const { wire } = opened;
    let connection: Connection;
    try {
      connection = new Connection({
        wire,
        reader: opened.reader,
        clock: this.#clock,
        limits: this.#limits,
        afterId: this.#window.assignedId,
        lastId: () => this.#ports.queue.lastId,
        onEnd: () => this.#wakeSignal.wake(),
        // With more to send, what was acknowledged meanwhile makes room for it.
        onWritten: () =>
          this.#window.hasMore ? this.#wakeSignal.wake() : this.#wakeSignal.wakeSoon(),
        onReceived: (chunk) => {
          this.#receivedBytes += chunk.length;
          this.#changes++;
          this.#ports.onReceived(chunk);
        },
      });
    } catch (error) {
      abortQuietly(wire);
      return this.#attemptFailed(error, nowMs, nowMs);
    }
    this.#connections++;
    this.#refusalPauses.ofSessions.reset();
    this.#toldFailures.forget();
    this.#confirmedHere = false;
    this.#verdict = { kind: "healthy" };
    this.#window.connected(opened, this.#limits);
    const words = `connected to ${wire.remoteAddress} from ${wire.localAddress}`;
    const inMs = this.#enter({ kind: "connected", connection }, "info", words);
    this.#window.topUp(connection, nowMs);
    return inMs;
  }

  #attemptFailed(
    error: unknown,
    startedAtMs: number,
    nowMs: number,
    verdict?: Verdict,
  ): number {
    if (isLasting(error)) throw error;
    if (this.#ports.dialer.waits && this.#mayClose(nowMs)) return this.#close();
    this.#failedAttempts++;
    if (verdict !== undefined) this.#verdict = verdict;
    else if (OF_AN_ATTEMPT.has(this.#verdict.kind)) this.#verdict = { kind: "healthy" };
    // Counted from its start: one that took its whole second has waited already.
    const untilMs = verdict?.kind === "session-refused"
      ? nowMs + this.#refusalPauses.ofSessions.nextDelayMs()
      : Math.max(nowMs, startedAtMs + this.#backoff.nextDelayMs());
    const words = `cannot connect to ${this.#ports.dialer.remote}: ${messageOf(error)}`;
    const level = this.#toldFailures.levelOf(words);
    return this.#enter({ kind: "backing-off", untilMs }, level, words, error);
  }

  #connected(connection: Connection, nowMs: number): number {
    const reading = this.#poll(connection, nowMs, false);
    if (reading.ended) return this.#ended(connection, reading.peerClosed, nowMs);
    if (!reading.alive) return reading.pollInMs; // Dead, and its errno still on the way.
    if (reading.peerClosed && this.#limits.onPeerFin !== "keep-sending") {
      const untilMs = nowMs + FIN_WAIT_MS;
      return this.#enter(
        { kind: "ending", connection, why: "peer-closed", untilMs },
        "debug",
        "the peer closed the connection",
      );
    }
    this.#window.topUp(connection, nowMs);
    const inOrder = connection.unconfirmedPackets === 0;
    const allConfirmed = inOrder && !this.#window.hasMore;
    const mayFinish = this.#closeAtMs !== undefined && (allConfirmed || this.#mustClose(nowMs));
    if (!mayFinish) {
      const inMs = Math.min(reading.pollInMs, connection.beat());
      if (!this.#window.hasMore && connection.inFlightBytes === 0) return inMs;
      return Math.min(inMs, WAITING_STEP_MS);
    }
    if (connection.inFlightBytes > 0) {
      // Everything is confirmed, and a heartbeat is on its way.
      return this.#mustClose(nowMs) ? this.#close(connection) : reading.pollInMs;
    }
    connection.finish(inOrder);
    return this.#enter(
      { kind: "ending", connection, why: "closing", untilMs: nowMs + FIN_WAIT_MS },
      "debug",
      "half-closed; waiting for the peer to close",
    );
  }

  #ending(state: Ending, nowMs: number): number {
    const { connection, why } = state;
    const reading = this.#poll(connection, nowMs);
    if (why === "closing") {
      if (!reading.ended && !reading.peerClosed && nowMs < state.untilMs) {
        return Math.min(reading.pollInMs, state.untilMs - nowMs);
      }
      return this.#close(connection);
    }
    if (reading.ended) return this.#ended(connection, reading.peerClosed, nowMs);
    if (!reading.alive) return reading.pollInMs;
    const underWay = connection.inFlightBytes > 0;
    if (this.#mustClose(nowMs)) return this.#close(connection);
    // A peer that has only half-closed goes on acknowledging, and what it has
    // acknowledged must not be destroyed by our reset.
    if (underWay && reading.progressed) state.untilMs = nowMs + FIN_WAIT_MS;
    const held = this.#limits.onPeerFin === "confirm" && connection.confirmation.heldPackets > 0;
    if (!underWay && !held) return this.#ended(connection, reading.peerClosed, nowMs);
    if (underWay && nowMs >= state.untilMs) {
      this.#verdict = { kind: "peer-closed" };
      return this.#ended(connection, reading.peerClosed, nowMs);
    }
    return underWay ? Math.min(reading.pollInMs, state.untilMs - nowMs) : reading.pollInMs;
  }

  #poll(connection: Connection, nowMs: number, isFresh = true): ConnectionReading {
    const reading = connection.poll(isFresh);
    const before = this.#verdict;
    if (this.#window.take(connection)) {
      this.#confirmedHere = true;
      this.#backoff.reset();
      this.#refusalPauses.ofPackets.reset();
    }
    this.#verdict = this.#overridden(reading.verdict, nowMs);
    if (!reading.ended && isNews(before, this.#verdict)) {
      this.#publish(levelOf(this.#verdict), describeVerdict(this.#verdict));
    }
    if (connection.answers !== undefined) this.#tellOfAnswers(connection.answers, reading.verdict);
    return reading;
  }

  /** @throws {PacketRefusedError} A refused packet is to stop the sender. */
  #tellOfAnswers(answers: Answers, verdict: Verdict): void {
    const unknown = answers.takeUnknown();
    if (unknown !== undefined) {
      this.#publish(this.#toldUnknownKey ? "debug" : "warn", unknown);
      this.#toldUnknownKey = true;
    }
    if (verdict.kind === "packet-refused" && this.#limits.answers?.onRefused === "stop") {
      throw new PacketRefusedError(verdict.id, verdict.words);
    }
  }

  /** What the readings of a connection cannot see, where they see nothing wrong. */
  #overridden(verdict: Verdict, nowMs: number): Verdict {
    if (verdict.kind !== "healthy" && verdict.kind !== "peer-closed") return verdict;
    const stuckMs = this.#window.stuckMs(nowMs);
    if (stuckMs >= REMOVAL_STUCK_MS) return { kind: "removal-stuck", stuckMs };
    return (this.#confirmedHere ? undefined : this.#earlyCloses.verdict) ?? verdict;
  }

  /** A connection is over: what it did not confirm is sent again, and then what comes next. */
  #ended(connection: Connection, peerClosed: boolean, nowMs: number): number {
    // What the server has accepted behind a packet that it refused counts, too.
    if (this.#window.isBurying) return Infinity;
    const again = connection.unconfirmedPackets;
    this.#earlyCloses.ended(this.#verdict, peerClosed, this.#confirmedHere, again);
    const { kind } = this.#verdict;
    const [refused, endedHere] = [kind === "packet-refused", kind === "ended-here"];
    // One that is refused breaks nothing.
    if (kind !== "local-fault" && !endedHere && !refused) this.#window.suspect(connection);
    if (!endedHere) this.#verdict = this.#earlyCloses.verdict ?? this.#verdict;
    this.#letGo(connection);
    const inOrder = peerClosed && again === 0;
    const words = inOrder
      ? "the peer closed the connection; everything was confirmed"
      : `connection given up: ${describeVerdict(this.#verdict)}` +
        (again === 0 ? "" : `; ${inPackets(again)} will be sent again`);
    const level = inOrder || (endedHere && again === 0) ? "info" : "warn";
    if (!this.#wantsConnection) return this.#enter({ kind: "idle" }, level, words);
    const backoff = refused ? this.#refusalPauses.ofPackets : this.#backoff;
    const atOnce = this.#confirmedHere && peerClosed && !refused;
    const untilMs = nowMs + (atOnce ? 0 : backoff.nextDelayMs());
    return this.#enter({ kind: "backing-off", untilMs }, level, words);
  }

  /** A queue that keeps what was confirmed sends it all again after a restart: say so. */
  #judgeRemoval(nowMs: number): void {
    if (this.#connection !== undefined) return; // its polls do
    const before = this.#verdict.kind;
    const base = before === "removal-stuck" ? { kind: "healthy" } as const : this.#verdict;
    this.#verdict = this.#overridden(base, nowMs);
    if (this.#verdict.kind !== before) {
      this.#publish(levelOf(this.#verdict), describeVerdict(this.#verdict));
    }
  }

  #letGo(connection: Connection): void {
    this.#window.rewind();
    connection.dispose({
      confirmedAny: this.#confirmedHere,
      unconfirmedPackets: connection.unconfirmedPackets,
      endedHere: this.#verdict.kind === "ended-here",
      endIsUsual: this.#limits.onPeerFin === "confirm",
    });
  }

  #close(connection?: Connection): number {
    if (connection !== undefined && this.#window.isBurying) return Infinity;
    if (connection !== undefined) this.#letGo(connection);
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

  /** At its end a sender needs it only as long as something is to be delivered. */
  get #needsQueue(): boolean {
    const delivers = this.#window.hasMore || (this.#connection?.unconfirmedPackets ?? 0) > 0;
    return this.#closeAtMs === undefined || (delivers && this.#state.kind !== "closed");
  }

  #mustClose(nowMs: number): boolean {
    return nowMs >= (this.#closeAtMs ?? Infinity);
  }

  #mayClose(nowMs: number): boolean {
    return this.#mustClose(nowMs) || (this.#closeAtMs !== undefined && !this.#window.hasMore);
  }

  /** Until `close` gives up; `Infinity` once it has. */
  #closeInMs(nowMs: number): number {
    const inMs = (this.#closeAtMs ?? Infinity) - nowMs;
    return inMs > 0 ? inMs : Infinity;
  }

  #enter(state: State, level: keyof Logger, words: string, error?: unknown): number {
    const before = this.#connection;
    this.#state = state;
    if (before !== undefined && this.#connection === undefined) {
      // What it has counted stays.
      this.#drainedBefore += before.drainedPackets;
      this.#confirmedBefore += before.confirmation.confirmedPackets;
      this.#ackedBefore += before.ackedBytes;
    }
    this.#publish(level, words, error);
    return AT_ONCE;
  }

  #publish(level: keyof Logger, words: string, error?: unknown): void {
    this.#ports.onStatus({
      state: this.#state.kind,
      verdict: this.#verdict,
      words,
      level,
      error: error instanceof Error ? error : undefined,
    });
  }
}
