/**
 * A run of the lease: several processes that want to send, each with a clock of its own, and a
 * database between them that is slow, silent or gone at times. The lease and what stands
 * between a sender and its connection are the shipped code; database, network and server are
 * simulated, and what they see is held against what must never be.
 *
 * @module
 */

import { FencedError } from "../src/base/errors.ts";
import { type Dialer, type SocketSample, TcpState, type Wire } from "../src/base/ports.ts";
import { Lease, type LeaseRow, type LeaseTable } from "../src/postgres/lease.ts";
import { tenuredDialer } from "../src/sender/tenured_dialer.ts";
import { SeededRandom } from "./random.ts";
import type { RunResult } from "./run.ts";

const TTL_MS = 3000;
/** A question that is not answered by then is given up; it may be carried out later. */
const ANSWER_TIMEOUT_MS = 1500;
/** Faults happen up to here; then everything has to come right. */
const FAULTS_END_MS = 60_000;
const RUN_MS = 120_000;
/** No two clocks differ by more than the lease allows for. */
const SLOWEST = 0.991;
const FASTEST = 1.009;

/** Events in the order of true time. */
class World {
  nowMs = 0;
  events = 0;
  violation: string | undefined;
  readonly #queue: { readonly atMs: number; readonly order: number; readonly run: () => void }[] =
    [];
  #order = 0;

  at(atMs: number, run: () => void): () => void {
    const event = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, run };
    // A binary search would save nothing: there are some ten of them.
    const index = this.#queue.findIndex((other) => other.atMs > event.atMs);
    this.#queue.splice(index < 0 ? this.#queue.length : index, 0, event);
    return () => {
      const index = this.#queue.indexOf(event);
      if (index >= 0) this.#queue.splice(index, 1);
    };
  }

  fail(words: string): void {
    this.violation ??= words;
  }

  async run(untilMs: number): Promise<void> {
    while (this.violation === undefined) {
      const event = this.#queue.shift();
      if (event === undefined || event.atMs > untilMs) return;
      this.nowMs = event.atMs;
      this.events++;
      event.run();
      // What follows from it, before anything else happens.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }
}

/** A process, with its machine's clock. */
class Process {
  readonly #world: World;
  readonly #rate: number;
  readonly #offsetMs: number;
  #pausedUntilMs = 0;
  #waiting: (() => void)[] = [];
  isDead = false;

  constructor(world: World, random: SeededRandom) {
    this.#world = world;
    this.#rate = random.between(SLOWEST, FASTEST);
    this.#offsetMs = random.between(0, 1e9);
  }

  nowMs(): number {
    return this.#offsetMs + this.#rate * this.#world.nowMs;
  }

  setTimer(delayMs: number, callback: () => void): () => void {
    let isOff = false;
    const cancel = this.#world.at(this.#world.nowMs + delayMs / this.#rate, () => {
      this.do(() => {
        if (!isOff) callback();
      });
    });
    return () => {
      isOff = true;
      cancel();
    };
  }

  /** Lets the process do something, once it can. */
  do(work: () => void): void {
    if (this.isDead) return;
    if (this.#world.nowMs < this.#pausedUntilMs) this.#waiting.push(work);
    else work();
  }

  #cutOffUntilMs = 0;

  /** For so long nothing passes between it and the database. */
  cutOff(forMs: number): void {
    this.#cutOffUntilMs = Math.max(this.#cutOffUntilMs, this.#world.nowMs + forMs);
  }

  get isCutOff(): boolean {
    return this.#world.nowMs < this.#cutOffUntilMs;
  }

  /** When the process was last stopped for a while. */
  pausedAtMs = -Infinity;

  pause(forMs: number): void {
    this.pausedAtMs = this.#world.nowMs;
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#world.nowMs + forMs);
    this.#world.at(this.#pausedUntilMs, () => this.#wake());
  }

  #wake(): void {
    if (this.isDead || this.#world.nowMs < this.#pausedUntilMs) return;
    const [first, ...rest] = this.#waiting;
    if (first === undefined) return;
    this.#waiting = rest;
    first();
    // One after the other, each with what follows from it.
    this.#world.at(this.#world.nowMs, () => this.#wake());
  }
}

/** What is in the database, and the way to it. */
class Database {
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #server: Server;
  row: LeaseRow = { epoch: 0, beat: 0, holder: undefined };
  /** Behind the lease's, for those who remove. */
  queueEpoch = 0;
  lastId = 0;
  removedThrough = 0;
  refusedRemovals = 0;
  #goneUntilMs = 0;
  /** How often a message takes long. */
  readonly #slow: number;

  constructor(world: World, random: SeededRandom, server: Server) {
    this.#world = world;
    this.#random = random;
    this.#slow = random.pick([0.02, 0.1, 0.4]);
    this.#server = server;
  }

  goAway(forMs: number): void {
    this.#goneUntilMs = Math.max(this.#goneUntilMs, this.#world.nowMs + forMs);
  }

  #delayMs(): number {
    if (this.#world.nowMs > FAULTS_END_MS) return this.#random.logBetween(0.2, 5);
    return this.#random.chance(this.#slow)
      ? this.#random.logBetween(50, 5000)
      : this.#random.logBetween(0.2, 50);
  }

  #isLost(process: Process): boolean {
    if (process.isCutOff) return true;
    return this.#world.nowMs < FAULTS_END_MS && this.#random.chance(0.02);
  }

  /** Any answer may be the last one for a while. */
  #isCut(): boolean {
    return this.#world.nowMs < FAULTS_END_MS && this.#random.chance(0.02);
  }

  /** A question, and its answer to a process that may have given it up by then. */
  ask<T>(process: Process, work: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    // The library's timers are of the process.
    process.setTimer(ANSWER_TIMEOUT_MS, () => reject(new Error("no answer")));
    if (this.#isLost(process)) return promise;
    this.#world.at(this.#world.nowMs + this.#delayMs(), () => {
      if (this.#world.nowMs < this.#goneUntilMs) return;
      let answer: () => void;
      try {
        const value = work();
        answer = () => resolve(value);
      } catch (error) {
        answer = () => reject(error);
      }
      if (this.#isLost(process)) return;
      this.#world.at(this.#world.nowMs + this.#delayMs(), () => {
        if (process.isCutOff) return;
        process.do(answer);
        if (this.#isCut()) process.cutOff(this.#random.logBetween(2000, 8000));
      });
    });
    return promise;
  }

  /** The lease as its schema has it. */
  tableOf(process: Process): LeaseTable {
    return {
      look: () => this.ask(process, () => this.row),
      take: (seen, holder) =>
        this.ask(process, () => {
          if (seen.epoch !== this.row.epoch || seen.beat !== this.row.beat) return undefined;
          this.row = { epoch: seen.epoch + 1, beat: seen.beat + 1, holder };
          this.queueEpoch = this.row.epoch;
          return this.row.epoch;
        }),
      beat: (epoch) =>
        this.ask(process, () => {
          if (epoch !== this.row.epoch || this.row.holder === undefined) return false;
          this.row = { ...this.row, beat: this.row.beat + 1 };
          return true;
        }),
      leave: (epoch) =>
        this.ask(process, () => {
          if (epoch !== this.row.epoch) return;
          this.row = { epoch, beat: this.row.beat + 1, holder: undefined };
        }),
      close: () => {},
    };
  }

  remove(process: Process, epoch: number, through: number): Promise<number> {
    return this.ask(process, () => {
      if (epoch !== this.queueEpoch) {
        this.refusedRemovals++;
        throw new FencedError("another epoch");
      }
      for (let id = this.removedThrough + 1; id <= through; id++) {
        if (!this.#server.has(id)) this.#world.fail(`packet ${id} was removed and is nowhere`);
      }
      this.removedThrough = Math.max(this.removedThrough, through);
      return this.removedThrough;
    });
  }
}

/** Who gets the packets. */
class Server {
  readonly #world: World;
  readonly #seen = new Set<number>();
  #newestEpoch = 0;
  duplicates = 0;

  constructor(world: World) {
    this.#world = world;
  }

  has(id: number): boolean {
    return this.#seen.has(id);
  }

  get delivered(): number {
    return this.#seen.size;
  }

  /** @param mayBeLate Its process was stopped, so that nobody could reset the connection. */
  receive(id: number, epoch: number, mayBeLate: boolean): void {
    if (epoch < this.#newestEpoch && !mayBeLate) {
      this.#world.fail(`packet ${id} of epoch ${epoch} came behind epoch ${this.#newestEpoch}`);
    }
    this.#newestEpoch = Math.max(this.#newestEpoch, epoch);
    if (this.#seen.has(id)) this.duplicates++;
    this.#seen.add(id);
  }
}

const SAMPLE: SocketSample = {
  ...{ state: TcpState.ESTABLISHED, sendQueueBytes: 0, notSentBytes: 0, bytesAcked: 0 },
  ...{ unackedSegments: 0, sendMssBytes: 1448, sendWindowBytes: 65536, windowLimitedUs: 0 },
  ...{ rttUs: 100, lastAckMs: 1, probes: 0, retransmits: 0, totalRetransmits: 0, hangup: false },
};

/** What one process has of a connection: its kernel sends on, also while it is stopped. */
class SimulatedWire implements Wire {
  readonly localAddress = "192.0.2.1:50123";
  readonly remoteAddress = "192.0.2.7:4000";
  #isOver = false;
  #arrivesAtMs = 0;

  constructor(
    private readonly world: World,
    private readonly random: SeededRandom,
    private readonly process: Process,
    private readonly database: Database,
    private readonly server: Server,
    private readonly epoch: number,
    private readonly onAcked: (id: number) => void,
  ) {}

  write(bytes: Uint8Array): Promise<number> {
    if (this.#isOver) return Promise.reject(new Error("the connection is reset"));
    const { world, epoch } = this;
    if (this.database.row.epoch > epoch) {
      world.fail(`epoch ${epoch} wrote, and epoch ${this.database.row.epoch} had begun`);
    }
    const [id = 0] = new Uint32Array(bytes.slice().buffer);
    const writtenAtMs = world.nowMs;
    // A window that is closed for a while keeps it in the Send-Q.
    const isClosed = world.nowMs < FAULTS_END_MS && this.random.chance(0.05);
    const delayMs = isClosed ? this.random.logBetween(100, 20_000) : this.random.between(0.1, 5);
    // In order: nothing passes what waits.
    this.#arrivesAtMs = Math.max(this.#arrivesAtMs, world.nowMs + delayMs);
    world.at(this.#arrivesAtMs, () => {
      if (this.#isOver) return;
      this.server.receive(id, epoch, this.process.pausedAtMs >= writtenAtMs);
      this.process.do(() => {
        if (!this.#isOver) this.onAcked(id);
      });
    });
    return Promise.resolve(bytes.length);
  }

  read(): Promise<number | null> {
    return new Promise(() => {});
  }

  sample(): SocketSample {
    return SAMPLE;
  }

  takeSocketError(): undefined {
    return undefined;
  }

  askPeer(): void {}

  localFault(): undefined {
    return undefined;
  }

  shutdownWrite(): void {}

  abort(): void {
    this.#isOver = true;
  }

  close(): void {
    this.#isOver = true;
  }

  get isOver(): boolean {
    return this.#isOver;
  }
}

/** A sender that sends a packet at a time, over and over. */
class SendingProcess {
  readonly process: Process;
  #lease: Lease | undefined;
  connections = 0;

  constructor(
    private readonly world: World,
    private readonly random: SeededRandom,
    private readonly database: Database,
    private readonly server: Server,
    readonly name: string,
  ) {
    this.process = new Process(world, random);
    void this.#run().catch((error) => {
      if (!this.process.isDead) world.fail(`${name} broke off: ${error}`);
    });
  }

  /** Ends in order, where it has something to give up. */
  stop(): void {
    void this.#lease?.release();
    this.kill();
  }

  kill(): void {
    this.process.isDead = true;
    this.#wire?.abort();
  }

  #wire: SimulatedWire | undefined;

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => void this.process.setTimer(ms, resolve));
  }

  async #run(): Promise<void> {
    for (;;) {
      const lease = this.#lease = await Lease.take({
        table: this.database.tableOf(this.process),
        clock: this.process,
        ttlMs: TTL_MS,
        holder: this.name,
        path: "queue",
        waits: true,
        tell: () => {},
      });
      let isLost = false;
      lease.subscribeLost(() => isLost = true);
      while (!isLost) {
        try {
          await this.#deliver(lease);
        } catch (error) {
          if (error instanceof FencedError) break;
        }
        this.#wire?.abort();
        await this.#rest(100);
      }
      this.#wire?.abort();
      await lease.release();
      await this.#rest(200);
    }
  }

  /** One connection, until it breaks. */
  async #deliver(lease: Lease): Promise<void> {
    const { database, world, process } = this;
    // As it was when it last looked, a moment ago.
    const from = database.removedThrough;
    let ackedId = from;
    let writtenId = from;
    let isRemoving = false;
    let fenced: FencedError | undefined;
    const dialer: Dialer = {
      remote: "tcp://legacy:4000",
      dial: async () => {
        await this.#rest(this.random.between(0.1, 200));
        this.connections++;
        this.#wire = new SimulatedWire(
          world,
          this.random.fork(),
          process,
          database,
          this.server,
          lease.epoch,
          (id) => ackedId = Math.max(ackedId, id),
        );
        return this.#wire;
      },
    };
    const wire = await tenuredDialer(dialer, lease).dial(new AbortController().signal);
    while (!(this.#wire?.isOver ?? true)) {
      if (writtenId < database.lastId && writtenId - ackedId < 5) {
        writtenId++;
        await wire.write(new Uint8Array(Uint32Array.of(writtenId).buffer));
      }
      // Delivery goes on meanwhile, and whatever becomes of it.
      if (ackedId > from && !isRemoving && this.random.chance(0.3)) {
        isRemoving = true;
        database.remove(process, lease.epoch, ackedId).catch((error) => {
          if (error instanceof FencedError) fenced = error;
        }).finally(() => isRemoving = false);
      }
      if (fenced !== undefined) throw fenced;
      await this.#rest(this.random.between(5, 50));
    }
    throw new Error("the connection was reset");
  }
}

/**
 * Draws a world and runs it.
 *
 * @param seed The same world for the same seed.
 */
export async function runLease(seed: number): Promise<RunResult> {
  const random = new SeededRandom(seed);
  const world = new World();
  const server = new Server(world);
  const database = new Database(world, random.fork(), server);
  let started = 0;
  let connections = 0;
  const start = () =>
    new SendingProcess(world, random.fork(), database, server, `process ${++started}`);
  const senders = Array.from({ length: random.int(2, 3) }, start);
  const faults = random.fork();

  const store = () => {
    database.lastId++;
    if (world.nowMs < FAULTS_END_MS) world.at(world.nowMs + faults.between(20, 400), store);
  };
  world.at(0, store);
  const fault = () => {
    if (world.nowMs > FAULTS_END_MS) return;
    const index = faults.int(0, senders.length - 1);
    const sender = senders[index];
    if (sender === undefined) return;
    const kind = faults.next();
    if (kind < 0.35) sender.process.pause(faults.logBetween(10, 20_000));
    else if (kind < 0.65) sender.process.cutOff(faults.logBetween(500, 10_000));
    else if (kind < 0.8) database.goAway(faults.logBetween(50, 8000));
    else {
      connections += sender.connections;
      if (kind < 0.92) sender.kill();
      else sender.stop();
      senders[index] = start();
    }
    world.at(world.nowMs + faults.logBetween(20, 8000), fault);
  };
  world.at(faults.between(0, 5000), fault);

  await world.run(RUN_MS);
  if (world.violation === undefined && database.removedThrough < database.lastId) {
    world.fail(
      `a minute after the last fault ${database.lastId - database.removedThrough} of ` +
        `${database.lastId} packets are still there, epoch ${database.row.epoch}`,
    );
  }
  for (const sender of senders) {
    connections += sender.connections;
    sender.kill();
  }
  return {
    seed,
    violation: world.violation,
    simulatedMs: world.nowMs,
    events: world.events,
    accepted: database.lastId,
    delivered: server.delivered,
    duplicates: server.duplicates,
    lostUnread: 0,
    dead: 0,
    connections,
  };
}
