/**
 * One run: the sender's unchanged code in a world drawn from a seed.
 *
 * @module
 */

import { WireError } from "../src/base/errors.ts";
import type { Dialer } from "../src/base/ports.ts";
import { Supervisor } from "../src/delivery/supervisor.ts";
import { failoverDialer } from "../src/failover/failover_dialer.ts";
import { OutboundQueue, sendingSideOf } from "../src/queue/queue.ts";
import { Checker } from "./checker.ts";
import { SimDisk } from "./disk.ts";
import { SimListenDialer } from "./listening.ts";
import { Network } from "./network.ts";
import { makePacket } from "./packet.ts";
import { SeededRandom } from "./random.ts";
import { type Burst, drawScenario, type Fault, type Scenario } from "./scenario.ts";
import { Scheduler, settled, SimProcess } from "./scheduler.ts";
import { SimServer } from "./server.ts";
import { SimDialer, type SyscallChance } from "./wire.ts";

/** What came out. */
export interface RunResult {
  readonly seed: number;
  /** What was violated; undefined: nothing. */
  readonly violation: string | undefined;
  readonly simulatedMs: number;
  readonly events: number;
  readonly accepted: number;
  readonly delivered: number;
  readonly duplicates: number;
  readonly lostUnread: number;
  readonly dead: number;
  readonly connections: number;
}

/** How to run. */
export interface RunOptions {
  /** A file that exists; nothing is written into it. */
  readonly queuePath: string;
  /** Takes the trace, line by line. */
  readonly trace?: (line: string) => void;
}

const LAST_PACKETS = 3;
/** The wall clock's time when a run begins. */
const WALL_MS = Date.UTC(2026, 5, 1);
const CLOSE_DRAIN_MS = 5000;
/** What close may take beyond its `deliverTimeoutMs`. */
const CLOSE_SLACK_MS = 1500;
const START_RETRY_MS = 500;

/** Runs one seed. Never throws for what the sender did wrong. */
export async function run(seed: number, options: RunOptions): Promise<RunResult> {
  const world = new World(drawScenario(seed), options);
  try {
    await world.live();
  } catch (error) {
    world.checker.fail(error instanceof Error ? error.stack ?? error.message : String(error));
  }
  world.dispose();
  return world.result();
}

class World {
  readonly checker: Checker;
  readonly #scenario: Scenario;
  readonly #queuePath: string;
  readonly #scheduler = new Scheduler();
  readonly #random: SeededRandom;
  readonly #network: Network;
  readonly #server: SimServer;
  readonly #disk: SimDisk;
  readonly #trace: (line: () => string) => void;
  readonly #faults = new Map<string, number>();

  #clockJumpMs = 0;
  #wallJumpMs = 0;
  #process: SimProcess | undefined;
  #queue: OutboundQueue | undefined;
  #supervisor: Supervisor | undefined;
  #closing = false;
  #dialer: SimDialer | SimListenDialer | undefined;
  #nextTag = 1;
  #enqueuedBytes = 0;

  constructor(scenario: Scenario, { queuePath, trace }: RunOptions) {
    this.#scenario = scenario;
    this.#queuePath = queuePath;
    this.#random = new SeededRandom(scenario.seed ^ 0x5eed);
    const scheduler = this.#scheduler;
    this.#trace = trace === undefined
      ? () => {}
      : (line) => trace(`t=${(scheduler.nowMs / 1000).toFixed(3)}s  ${line()}`);
    this.checker = new Checker({
      scheduler,
      hostNowMs: this.#hostNowMs,
      queueMs: this.#queueMs,
      limits: scenario.limits,
      poison: scenario.poison,
      rtoMaxMs: scenario.clientTcp.rtoMaxMs,
      timerLateMs: scenario.timerLateMs + scenario.ioLagMs,
      listens: scenario.listening !== undefined,
      servers: scenario.addresses.length,
      trace: this.#trace,
    });
    this.#disk = new SimDisk(scenario.diskBytes, this.checker);
    this.checker.watch(this.#disk);
    this.#server = new SimServer(
      scheduler,
      this.checker,
      scenario.session,
      scenario.answers &&
        { how: scenario.answers, random: new SeededRandom(scenario.seed ^ 0xa2) },
    );
    this.#network = new Network(
      scheduler,
      this.#random.fork(),
      scenario.path,
      scenario.clientTcp,
      scenario.serverTcp,
      this.#server,
    );
  }

  async live(): Promise<void> {
    const { durationMs, bursts, faults, drainedCalls, visits } = this.#scenario;
    this.#trace(() => JSON.stringify(describe(this.#scenario)));
    this.#start();
    if (this.#scenario.listening !== undefined) {
      const connect = this.#network.connectFromServer.bind(this.#network);
      this.#server.connectThrough(connect, this.#scenario.listening.pauseMs);
    }
    for (const burst of bursts) this.#at(burst.atMs, () => this.#produce(burst));
    for (const fault of faults) this.#at(fault.atMs, () => this.#breakIt(fault));
    for (const atMs of drainedCalls) this.#at(atMs, () => this.#callDrained());
    for (const visit of visits) this.#at(visit.atMs, () => this.#visit(visit.what));
    await this.#runUntil(durationMs, () => false);
    await this.#healAndFinish();
    this.checker.finish();
  }

  dispose(): void {
    this.#process?.kill();
    this.#disk.dispose();
  }

  result(): RunResult {
    const { checker } = this;
    return {
      seed: this.#scenario.seed,
      violation: checker.violation,
      simulatedMs: this.#scheduler.nowMs,
      events: this.#scheduler.events,
      accepted: checker.accepted,
      delivered: checker.delivered,
      ...checker.totals,
    };
  }

  readonly #wallMs = (): number => WALL_MS + this.#scheduler.nowMs + this.#wallJumpMs;

  /** The time by which packets expire: it goes on as the monotonic clock does. */
  readonly #queueMs = (): number => WALL_MS + this.#hostNowMs();

  readonly #hostNowMs = (): number => this.#scheduler.nowMs + this.#clockJumpMs;

  #at(atMs: number, action: () => void): void {
    this.#scheduler.after(Math.max(0, atMs - this.#scheduler.nowMs), action);
  }

  /** Runs event after event; after each that has touched the process, lets its promises settle. */
  async #runUntil(endMs: number, done: () => boolean): Promise<void> {
    const scheduler = this.#scheduler;
    while (this.checker.violation === undefined && !done()) {
      if (!scheduler.step(endMs)) {
        scheduler.advanceTo(endMs);
        return;
      }
      if (!scheduler.touched) continue;
      scheduler.touched = false;
      await settled();
      this.checker.afterStep();
    }
  }

  /** Faults are over: everything must arrive, and the sender must come to rest. */
  async #healAndFinish(): Promise<void> {
    this.#trace(() => "--- faults are over");
    this.#heal();
    this.#makeRoom();
    const scheduler = this.#scheduler;
    const { checker } = this;
    const recoveryMs = this.#recoveryMs();
    const arriveByMs = scheduler.nowMs + recoveryMs;
    await this.#runUntil(
      arriveByMs,
      () =>
        this.#supervisor !== undefined && this.#pendingEnqueues === 0 && checker.everythingArrived,
    );
    if (checker.violation !== undefined) return;
    if (!checker.everythingArrived || this.#pendingEnqueues > 0) {
      return checker.fail(
        `${
          (this.#recoveryMs() / 1000).toFixed(0)
        } s after the last fault the server has not read ` +
          checker.missing(),
      );
    }
    // A pause, so that nothing but the new packets can wake the sender.
    await this.#runUntil(scheduler.nowMs + 5000 + this.#scenario.limits.holdMs, () => false);
    for (let i = 0; i < LAST_PACKETS; i++) {
      while (this.#scenario.poison.has(this.#nextTag)) this.#nextTag++;
      this.#produce({ atMs: scheduler.nowMs, sizes: [100], together: false, ttlMs: Infinity });
    }
    scheduler.touched = true;
    const wanted = (): boolean => this.#pendingEnqueues === 0 && checker.everythingArrived;
    await this.#runUntil(scheduler.nowMs + this.#quietMs(), wanted);
    if (checker.violation !== undefined) return;
    if (!wanted()) {
      return checker.fail(`packets enqueued in quiet times do not arrive: ${checker.missing()}`);
    }
    await this.#deliverAndClose();
  }

  async #deliverAndClose(): Promise<void> {
    const { checker } = this;
    const scheduler = this.#scheduler;
    const { limits } = this.#scenario;
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return checker.fail("the sender does not run");
    let drained = false;
    this.#process?.enter(() => void supervisor.drained().then(() => (drained = true)));
    // What arrived may have been given up since, for it was not read: it goes out once more.
    const againMs = supervisor.state === "connected" ? 0 : this.#recoveryMs();
    const drainMs = 2000 + 4 * this.#scenario.path.delayMs + this.#answersMs() + againMs;
    await this.#runUntil(scheduler.nowMs + drainMs, () => drained);
    if (checker.violation !== undefined) return;
    if (!drained) return checker.fail("drained() does not resolve although everything arrived");
    // Held packets are confirmed, then removed, and the file is empty.
    await this.#runUntil(
      scheduler.nowMs + 2.1 * limits.holdMs + 3000,
      () => this.#disk.ids.size === 0,
    );
    if (checker.violation !== undefined) return;
    if (this.#disk.ids.size > 0) {
      return checker.fail(`${this.#disk.ids.size} confirmed packets are not removed from disk`);
    }
    checker.counted();
    if (supervisor.state !== "idle" && supervisor.state !== "connected") {
      return checker.fail(`the sender has nothing to do and is ${supervisor.state}`);
    }
    this.#close(CLOSE_DRAIN_MS, () => {});
    await this.#runUntil(
      scheduler.nowMs + CLOSE_DRAIN_MS + CLOSE_SLACK_MS,
      () => this.#supervisor === undefined,
    );
    if (checker.violation !== undefined) return;
    if (this.#supervisor !== undefined) return checker.fail("close() does not end");
    const timers = this.#process?.timers ?? 0;
    if (timers > 0) checker.fail(`${timers} timers are left after close()`);
  }

  /** How long recovery may take once nothing is broken any more. */
  #recoveryMs(): number {
    const { limits, clientTcp, path } = this.#scenario;
    const slowestProbeMs = clientTcp.rtoMaxMs > 1000 ? 130_000 : 5000;
    const roundTripMs = 2 * path.delayMs + 5;
    // Each window takes a round trip, or a receive buffer if that is smaller.
    const stepBytes = Math.min(
      limits.maxInFlightBytes,
      clientTcp.sendBufferBytes,
      this.#scenario.serverTcp.receiveBufferBytes / 2,
      10 * clientTcp.mssBytes,
    );
    const transferMs = (this.#enqueuedBytes / stepBytes + 100) * 2 * roundTripMs;
    // Whoever waits for room waits until as many packets as there is room for were held.
    const turns = this.#pendingEnqueues / this.#scenario.queue.maxPackets + 1;
    const { commitIntervalMs } = this.#scenario.queue;
    // Its removal waits for one commit, and what is stored in its place for the next.
    const roomMs = turns * (1.1 * limits.holdMs + 1000 + 2 * roundTripMs + 2 * commitIntervalMs);
    return 20_000 + slowestProbeMs + 2 * limits.backoffCapMs + limits.stallTimeoutMs +
      roomMs + transferMs + this.#paceMs() + this.#trialMs() + this.#sessionMs() +
      this.#answersMs() + this.#listeningMs();
  }

  /** How long a server that connects may take to find out that it has to, and to do so. */
  #listeningMs(): number {
    const { listening } = this.#scenario;
    return listening === undefined ? 0 : 20_000 + 2 * listening.pauseMs;
  }

  /** How long everything takes at the pace that is allowed. */
  #paceMs(): number {
    const { backlogPace, maxPacketsPerSecond, maxBytesPerSecond } = this.#scenario.limits;
    const packetRate = Math.min(maxPacketsPerSecond, backlogPace.maxPacketsPerSecond);
    const byteRate = Math.min(maxBytesPerSecond, backlogPace.maxBytesPerSecond);
    return 1000 * (this.#nextTag / packetRate + this.#enqueuedBytes / byteRate);
  }

  /** How long packets are on trial: each round waits for its hold, or a reconnect. */
  #trialMs(): number {
    const { maxAttempts, holdMs, backoffCapMs } = this.#scenario.limits;
    if (maxAttempts === Infinity) return 0;
    // A poisonous packet that an operator puts back is found anew; where nothing is confirmed
    // in between, each one that is given up takes twice as many connections as the last.
    const { poison, visits } = this.#scenario;
    const trials = poison.size + 1;
    const requeues = visits.filter(({ what }) => what === "requeue").length;
    const doublings = Math.min(10, poison.size * (1 + requeues));
    const rounds = 2 * Math.ceil(Math.log2(this.#nextTag + 2)) + maxAttempts * 2 ** doublings;
    // Each try waits for its pace, too.
    return trials * rounds * (1.1 * holdMs + backoffCapMs + 1000 + this.#paceMs());
  }

  /** The same for a few packets in quiet times, over a connection that may have to be replaced. */
  #quietMs(): number {
    const { limits } = this.#scenario;
    return 15_000 + 4 * limits.holdMs + 2 * limits.backoffCapMs + this.#paceMs() +
      this.#trialMs() + this.#sessionMs() + this.#answersMs() + this.#listeningMs();
  }

  /** How much longer answers may make it take: a time-out, a refusal, a round trip for each. */
  #answersMs(): number {
    const { limits: { answers: plan }, answers, path, timerLateMs, ioLagMs } = this.#scenario;
    if (plan === undefined || answers === undefined) return 0;
    const packetMs = answers.answerMs + answers.reorderMs + 2 * path.delayMs + 150 +
      4 * (timerLateMs + ioLagMs);
    return 3 * plan.answerTimeoutMs + 2 * plan.retryCapMs + this.#nextTag * packetMs;
  }

  /** How much longer a session may make it take: a refusal, an answer, one packet at a time. */
  #sessionMs(): number {
    const { session } = this.#scenario.limits;
    if (session === undefined) return 0;
    const { refusedBackoffCapMs, timeoutMs, heartbeat, separate } = session;
    const { path, timerLateMs, ioLagMs } = this.#scenario;
    const packetMs = 2 * path.delayMs + 60 + timerLateMs + ioLagMs;
    return 2 * (refusedBackoffCapMs + timeoutMs) + (heartbeat?.answerTimeoutMs ?? 0) +
      (separate ? this.#nextTag * packetMs : 0);
  }

  #pendingEnqueues = 0;

  #produce({ sizes, together, ttlMs }: Burst): void {
    const queue = this.#queue;
    const process = this.#process;
    if (queue === undefined || process === undefined || this.#closing) return;
    process.enter(() => {
      const packets = sizes.map((size) => {
        const tag = this.#nextTag++;
        this.#enqueuedBytes += size;
        this.checker.producing(tag, size, this.#queueMs() + ttlMs);
        return { tag, payload: makePacket(tag, size) };
      });
      this.#trace(() => `producer: ${packets.length} packets, tags from ${packets[0]?.tag}`);
      if (together) {
        this.#enqueue(
          process,
          packets.map(({ tag }) => tag),
          queue.enqueueMany(packets.map(({ payload }) => payload), { ttlMs })
            .then(({ firstId }) => firstId),
        );
      } else {
        for (const { tag, payload } of packets) {
          this.#enqueue(process, [tag], queue.enqueue(payload, { ttlMs }));
        }
      }
    });
  }

  #enqueue(process: SimProcess, tags: readonly number[], stored: Promise<number>): void {
    this.#pendingEnqueues++;
    const over = (): void => {
      if (process === this.#process) this.#pendingEnqueues--;
    };
    stored.then((firstId) => {
      over();
      tags.forEach((tag, i) => this.checker.enqueued(tag, firstId + i));
    }, (error) => {
      over();
      this.#trace(() => `producer: refused: ${error.message}`);
      for (const tag of tags) this.checker.refused(tag);
    });
  }

  /** An operator looks after the dead letters. */
  #visit(what: "requeue" | "remove"): void {
    const queue = this.#queue;
    if (queue === undefined || this.#closing) return;
    const { lastId, deadPackets } = queue.stats();
    if (deadPackets === 0) return;
    this.#trace(() => `operator: ${what} ${deadPackets} dead letters`);
    const all = { firstId: 1, lastId };
    this.#process?.enter(() => {
      const done = what === "requeue" ? queue.requeue(all) : queue.removeDeadLetters(all);
      // Refused while the disk fails, or the sender closes.
      done.catch((error) => this.#trace(() => `operator: refused: ${error.message}`));
    });
  }

  /** Dead letters count: where producers wait for room, somebody has to clear them away. */
  #makeRoom(): void {
    if (this.#pendingEnqueues > 0) this.#visit("remove");
    this.#scheduler.after(1000, () => this.#makeRoom());
  }

  #callDrained(): void {
    const supervisor = this.#supervisor;
    const lastId = this.#queue?.lastId ?? 0;
    if (supervisor === undefined) return;
    this.#process?.enter(() => {
      // A sender that closes first says so by rejecting.
      supervisor.drained().then(() => this.checker.drained(lastId), () => {});
    });
  }

  // --- the sender's process ---

  #start(): void {
    const scheduler = this.#scheduler;
    const { timerLateMs, ioLagMs, partialWrites, limits, queue: queueOptions } = this.#scenario;
    const random = this.#random.fork();
    const process = new SimProcess(scheduler, {
      hostNowMs: this.#hostNowMs,
      wallMs: this.#wallMs,
      timerLateMs: () => timerLateMs === 0 ? 0 : random.between(0, timerLateMs),
    }, random.between(0, 1e6));
    this.#process = process;
    // Whoever was stopped is gone; a new life begins awake.
    this.#faults.delete("sender-stopped");
    this.checker.stopped(false);
    this.#pendingEnqueues = 0;
    this.#closing = false;
    const chance = {
      takes: (bytes: number) =>
        partialWrites > 0 && bytes > 1 && random.chance(partialWrites)
          ? random.int(1, bytes)
          : bytes,
      lagMs: () => ioLagMs > 0 && random.chance(0.3) ? random.between(0, ioLagMs) : 0,
    };
    scheduler.touched = true;
    OutboundQueue.open(this.#queuePath, {
      driver: this.#disk.driver,
      clock: process,
      ...queueOptions,
    }).then((queue) => {
      if (!process.alive) return;
      const supervisor = new Supervisor(limits, {
        queue: sendingSideOf(queue),
        dialer: this.#dialerOf(process, chance),
        clock: process,
        random: () => random.next(),
        onStatus: (status) => this.checker.status(status),
        onReceived: () => {},
      }, sendingSideOf(queue).sentThroughId);
      this.#disk.space.restoreReserve();
      sendingSideOf(queue).sweepExpired(this.#disk.space);
      this.#queue = queue;
      this.#supervisor = supervisor;
      this.checker.started(process, supervisor);
      supervisor.closed.catch((error) => {
        this.checker.fail(`the sender stopped by itself: ${error.stack ?? error}`);
      });
    }, (error) => {
      this.#trace(() => `sender: cannot open its queue: ${error.message}`);
      process.kill();
      scheduler.after(START_RETRY_MS, () => this.#start());
    });
  }

  /** Every address leads to the one server, but for the times when nobody answers there. */
  #dialerOf(clock: SimProcess, chance: SyscallChance): Dialer {
    const { addresses, listening } = this.#scenario;
    const world = [this.#network, clock, this.checker, chance] as const;
    if (listening !== undefined) {
      const refusesSecond = listening.secondConnection === "refuse";
      return this.#dialer = new SimListenDialer(...world, refusesSecond);
    }
    const dialer = this.#dialer = new SimDialer(...world);
    if (addresses.length === 1) return dialer;
    const dialers = addresses.map((outages, i): Dialer => ({
      remote: `tcp://server-${i}.example:4000`,
      dial: (signal, onLookedUp) => {
        this.checker.headsFor(i);
        const nowMs = this.#scheduler.nowMs;
        const outage = outages.find(({ fromMs, toMs }) => fromMs <= nowMs && nowMs < toMs);
        if (outage === undefined) return dialer.dial(signal, onLookedUp);
        this.checker.dialed();
        onLookedUp?.();
        if (outage.refuses) return Promise.reject(new WireError("ECONNREFUSED", "simulated"));
        return new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
      },
    }));
    return failoverDialer({ dialers, clock });
  }

  /** Ends the process; its kernel closes what it had open, or vanishes with it. */
  #kill(powerCut: boolean): void {
    const process = this.#process;
    if (process === undefined) return;
    process.kill();
    this.#network.listener = undefined;
    if (powerCut) this.#network.clientVanishes();
    this.checker.ended();
    for (const end of [...this.#network.clientEnds]) end.close();
    this.#queue = undefined;
    this.#supervisor = undefined;
    this.#process = undefined;
  }

  #close(deliverTimeoutMs: number, then: () => void): void {
    const supervisor = this.#supervisor;
    const queue = this.#queue;
    const process = this.#process;
    if (supervisor === undefined || queue === undefined || process === undefined) return;
    this.#closing = true;
    this.checker.closing = true;
    process.enter(() => {
      const deadlineMs = process.nowMs() + deliverTimeoutMs + CLOSE_SLACK_MS;
      const stoppedBefore = this.#stops;
      supervisor.close(deliverTimeoutMs).then(async () => {
        if (process.nowMs() > deadlineMs && this.#stops === stoppedBefore) {
          this.checker.fail(`close(${deliverTimeoutMs.toFixed(0)}) took too long`);
        }
        await queue.close();
        if (this.#process !== process) return;
        this.checker.ended();
        this.#queue = undefined;
        this.#supervisor = undefined;
        then();
      }, () => {});
    });
  }

  /** Times at which the process lost its sense of time. */
  #stops = 0;

  // --- faults ---

  #breakIt(fault: Fault): void {
    this.#trace(() => `fault: ${JSON.stringify(fault)}`);
    const server = this.#server;
    const { toServer, toClient } = this.#network;
    switch (fault.kind) {
      case "partition":
        this.#network.icmpCode = fault.icmpCode;
        if (fault.lanes !== "to-client") {
          this.#spell("to-server", fault, (on) => (toServer.blocked = on));
        }
        if (fault.lanes !== "to-server") {
          this.#spell("to-client", fault, (on) => (toClient.blocked = on));
        }
        return;
      case "loss":
        return this.#spell("loss", fault, (on) => {
          toServer.loss = toClient.loss = on ? fault.loss : 0;
        });
      case "slow-link":
        return this.#spell("slow-link", fault, (on) => {
          toServer.bandwidth = on ? fault.bandwidth : Infinity;
        });
      case "local-fault":
        return this.#spell("local-fault", fault, (on) => {
          this.#network.localFault = on ? fault.fault : undefined;
        });
      case "reset":
        return this.#network.injectReset(fault.toClient, fault.toServer);
      case "server-close":
        return server.closeConnections();
      case "server-half-close":
        return server.halfCloseConnections();
      case "server-shuts-down-and-closes":
        return server.shutDownAndClose();
      case "server-works-slowly":
        return this.#spell("server-works-slowly", fault, (on) => {
          server.workMs = on ? fault.workMs : 0;
        });
      case "server-floods":
        return this.#flood(fault);
      case "server-resets-after-reading":
        return this.#spell("server-resets", fault, (on) => (server.resetsAfterReading = on));
      case "wire-fails":
        return this.#dialer?.wire?.failAbove(fault.what);
      case "look-up-slow":
        return this.#spell("look-up-slow", fault, (on) => {
          this.#network.lookUpMs = on ? fault.lookUpMs : 0;
        });
      case "server-dies-quietly":
        return this.#dieQuietly(fault);
      case "kernel-hides-acks":
        return this.#spell("kernel-hides-acks", fault, (on) => this.#network.hideAcks(on));
      case "server-stalls":
        return this.#spell("server-stalls", fault, (on) => (server.stalled = on));
      case "server-reads-slowly":
        return this.#spell("server-reads-slowly", fault, (on) => {
          server.readRate = on ? fault.bytesPerMs : Infinity;
        });
      case "server-accepts-late":
        return this.#spell("server-accepts-late", fault, (on) => {
          server.acceptDelayMs = on ? fault.delayMs : 0;
        });
      case "server-crash":
        return this.#spell("server-down", fault, (on) => {
          if (on) server.crash();
          else if (server.up) server.restart();
        });
      case "server-reboot":
        return this.#spell("server-off", fault, (on) => {
          if (on) server.powerOff();
          else server.powerOn();
        });
      case "server-refuses":
        return this.#spell("server-down", fault, (on) => {
          server.listening = !on && server.up;
        });
      case "server-connects-anew":
        return server.connectAnew();
      case "server-speaks":
        return server.chatter(new Uint8Array(fault.bytes));
      case "sender-killed":
      case "sender-power-cut":
        return this.#crash(fault);
      case "sender-restart":
        return this.#restart(fault.deliverTimeoutMs, fault.durationMs);
      case "sender-stopped":
        return this.#stop(fault);
      case "clock-jump":
        this.#clockJumpMs += fault.jumpMs;
        this.checker.clockJumped();
        this.#stops++;
        return;
      case "wall-clock-jump":
        this.#wallJumpMs += fault.jumpMs;
        this.checker.wallClockJumped();
        return;
      case "commit-fails":
        return this.#spell("commit-fails", fault, (on) => {
          this.#disk.commitFault = on ? fault.why : undefined;
        });
      case "server-refuses-session":
        return this.#spell("server-refuses-session", fault, (on) => {
          server.refuses = on ? fault.how : undefined;
        });
      case "server-answers-late":
        return this.#spell("server-answers-late", fault, (on) => {
          server.lateMs = on ? fault.lateMs : 0;
        });
      case "server-answers-no-packet":
        return this.#spell(fault.kind, fault, (on) => (server.answersNoPacket = on));
      case "server-answers-early":
        return this.#spell(fault.kind, fault, (on) => (server.answersEarly = on));
      case "server-answers-wrongly":
        return this.#spell(fault.kind, fault, (on) => (server.answersWrongly = on));
      case "server-refuses-packets":
        return this.#spell(fault.kind, fault, (on) => (server.refusesPackets = on));
      case "server-ignores-heartbeats":
        return this.#spell("server-ignores-heartbeats", fault, (on) => {
          server.ignoresHeartbeats = on;
        });
      case "read-fails":
        return this.#spell("read-fails", fault, (on) => (this.#disk.readFault = on));
      case "stored-byte-changes":
        return this.checker.changed(this.#disk.changeByte(fault.place));
      default:
        throw new TypeError(`Unknown fault ${JSON.stringify(fault satisfies never)}`);
    }
  }

  /** A program that only speaks: it never reads, so that its window closes. */
  #flood(fault: Fault & { readonly everyMs: number }): void {
    this.#spell("server-stalls", fault, (on) => (this.#server.stalled = on));
    const untilMs = this.#scheduler.nowMs + fault.durationMs;
    const speak = (): void => {
      if (this.#scheduler.nowMs >= untilMs || !this.#server.stalled) return;
      this.#server.chatter(new Uint8Array(500));
      this.#scheduler.after(fault.everyMs, speak);
    };
    speak();
  }

  /**
   * The path is cut the moment that everything is acknowledged, and the server's
   * program is killed behind it: not a sign of it reaches the sender.
   */
  #dieQuietly(fault: Fault, triesLeft = 1500): void {
    if (this.#isHealed) return;
    const acked = this.#dialer?.wire?.end.unackedBytes === 0 &&
      (this.#supervisor?.stats.heldPackets ?? 0) > 0;
    if (!acked) {
      if (triesLeft > 0) this.#scheduler.after(2, () => this.#dieQuietly(fault, triesLeft - 1));
      return;
    }
    const { toServer, toClient } = this.#network;
    this.#spell("to-server", fault, (on) => (toServer.blocked = on));
    this.#spell("to-client", fault, (on) => (toClient.blocked = on));
    this.#spell("server-off", fault, (on) => {
      if (on) this.#server.powerOff();
      else this.#server.powerOn();
    });
  }

  /** Faults of one kind may overlap: the last one to end ends it. */
  #spell(name: string, { durationMs }: Fault, set: (on: boolean) => void): void {
    const untilMs = this.#scheduler.nowMs + durationMs;
    this.#faults.set(name, Math.max(untilMs, this.#faults.get(name) ?? 0));
    set(true);
    this.#scheduler.after(durationMs, () => {
      const lastMs = this.#faults.get(name);
      if (lastMs === undefined || lastMs > this.#scheduler.nowMs) return;
      this.#faults.delete(name);
      this.#trace(() => `over: ${name}`);
      set(false);
    });
    this.#healers.set(name, () => set(false));
  }

  readonly #healers = new Map<string, () => void>();
  /** A fault that still waits for its moment does not come any more. */
  #isHealed = false;

  #crash({ kind, durationMs }: Fault): void {
    if (this.#process === undefined) return;
    this.#kill(kind === "sender-power-cut");
    this.#scheduler.after(durationMs, () => {
      if (this.#process === undefined) this.#start();
    });
  }

  #restart(deliverTimeoutMs: number, pauseMs: number): void {
    if (this.#closing) return;
    this.#close(deliverTimeoutMs, () => {
      const process = this.#process;
      this.#scheduler.after(pauseMs, () => {
        // It may have been killed meanwhile, and started again by that.
        if (this.#process !== process || process === undefined) return;
        process.kill();
        this.#network.listener = undefined;
        for (const end of [...this.#network.clientEnds]) if (!end.orphan) end.close();
        this.#start();
      });
    });
  }

  #stop(fault: Fault): void {
    if (this.#process === undefined) return;
    this.#stops++;
    this.#spell("sender-stopped", fault, (on) => {
      this.checker.stopped(on);
      if (on) this.#process?.stop();
      else this.#process?.resume();
    });
  }

  #heal(): void {
    this.#isHealed = true;
    for (const name of [...this.#faults.keys()]) this.#healers.get(name)?.();
    this.#faults.clear();
    this.#server.powerOn();
    if (this.#process === undefined) this.#start();
  }
}

/** The scenario without its long lists. */
function describe({ bursts, faults, ...rest }: Scenario): unknown {
  const packets = bursts.reduce((sum, { sizes }) => sum + sizes.length, 0);
  return { ...rest, packets, faults: faults.length };
}
