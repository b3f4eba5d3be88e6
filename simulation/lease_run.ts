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
import { type HeldLease, Lease, type LeaseRow, type LeaseTable } from "../src/postgres/lease.ts";
import { tenuredDialer } from "../src/sender/tenured_dialer.ts";
import { SeededRandom } from "./random.ts";
import type { RunResult } from "./run.ts";

const TTL_MS = 3000;
/** In half of the worlds each process has its own. */
const TTLS_MS = [1000, TTL_MS, 6000];
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
  /** How many tenures have begun. */
  terms = 0;
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

/** What is in the database. */
class State {
  row: LeaseRow = { epoch: 0, tenure: undefined, beat: 0, holder: undefined, ttlMs: 0 };
  /** What the holder of the lease may have sent. */
  reservedThrough = 0;
  /** Behind the lease's, for those who remove. */
  fence: { readonly epoch: number; readonly tenure: string | undefined } = {
    epoch: 0,
    tenure: undefined,
  };
  sentThrough = 0;
  removedThrough = 0;
  /** What lies under the ids from 1 on: each has a number that no other one ever has. */
  readonly packets: number[] = [];
  /** How many calls of each producer, and reads of each sender, are known. */
  readonly calls = new Map<string, number>();
}

/** What was handed out to a sender: under which name, and how often. */
interface Reads {
  readonly reader: string;
  readonly count: number;
}

/** A transaction: the same on the primary and on a standby. */
type Work<T> = (state: State) => T;

/** A primary and its standby, and the way to them. */
class Database {
  /** Whether an answer waits until the standby has what it says. */
  readonly isReplicated: boolean;
  refusedRemovals = 0;
  /** When it last forgot something that it had answered. */
  wentBackAtMs = -Infinity;
  /** How often it did. */
  timesBack = 0;
  /** Packets that were acknowledged, and those among them that were forgotten. */
  readonly acknowledged = new Set<number>();
  readonly forgotten = new Set<number>();
  /** Packets that were put on a wire, and how often it had gone back by then. */
  readonly written = new Map<number, number>();
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #server: Server;
  #state = new State();
  /** What has led to it; the standby has the first of them. */
  #works: Work<unknown>[] = [];
  #replicated = 0;
  #replicatedAtMs = 0;
  #standbyGoneUntilMs = 0;
  #awaiting: { readonly count: number; readonly answer: () => void }[] = [];
  /** Questions to a primary that is gone are nobody's. */
  #primary = 1;
  #goneUntilMs = 0;
  /** How often a message takes long. */
  readonly #slow: number;

  readonly #longestTtlMs: number;

  constructor(world: World, random: SeededRandom, server: Server, longestTtlMs: number) {
    this.#world = world;
    this.#random = random;
    this.#longestTtlMs = longestTtlMs;
    this.#slow = random.pick([0.02, 0.1, 0.4]);
    this.isReplicated = random.chance(0.5);
    this.#server = server;
  }

  /** As it is, for those who judge. */
  get state(): Readonly<State> {
    return this.#state;
  }

  goAway(forMs: number): void {
    this.#goneUntilMs = Math.max(this.#goneUntilMs, this.#world.nowMs + forMs);
  }

  loseStandby(forMs: number): void {
    this.#standbyGoneUntilMs = Math.max(this.#standbyGoneUntilMs, this.#world.nowMs + forMs);
  }

  /** The primary is gone for good, and its standby takes its place as it is. */
  failOver(): void {
    const lost = this.#works.length - this.#replicated;
    this.#works = this.#works.slice(0, this.#replicated);
    this.#awaiting = [];
    this.#primary++;
    const state = new State();
    for (const work of this.#works) work(state);
    if (lost > 0 && !this.isReplicated) {
      this.wentBackAtMs = this.#world.nowMs;
      this.timesBack++;
      const known = new Set(state.packets);
      for (const packet of this.#state.packets) if (!known.has(packet)) this.forgotten.add(packet);
    }
    this.#state = state;
  }

  /** One that takes over after a database went back cannot know of the one before. */
  get isForgetful(): boolean {
    return this.#world.nowMs < this.wentBackAtMs + this.#longestTtlMs;
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
  #ask<T>(process: Process, carryOut: (answer: (give: () => void) => void) => void) {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    // The library's timers are of the process.
    process.setTimer(ANSWER_TIMEOUT_MS, () => reject(new Error("no answer")));
    const primary = this.#primary;
    if (!this.#isLost(process)) {
      this.#world.at(this.#world.nowMs + this.#delayMs(), () => {
        if (this.#world.nowMs < this.#goneUntilMs || primary !== this.#primary) return;
        carryOut((give) => {
          if (this.#isLost(process)) return;
          this.#world.at(this.#world.nowMs + this.#delayMs(), () => {
            if (process.isCutOff) return;
            process.do(give);
            if (this.#isCut()) process.cutOff(this.#random.logBetween(2000, 8000));
          });
        });
      });
    }
    return { promise, resolve, reject };
  }

  /** Looks. What is not on the standby yet is seen, too, as after a wait that was given up. */
  read<T>(process: Process, work: (state: Readonly<State>) => T): Promise<T> {
    const asked = this.#ask<T>(process, (answer) => {
      const value = work(this.#state);
      answer(() => asked.resolve(value));
    });
    return asked.promise;
  }

  /** Changes something. What is answered is on the standby, where answers wait for it. */
  change<T>(process: Process, work: Work<T>): Promise<T> {
    const asked = this.#ask<T>(process, (answer) => {
      let value: T;
      try {
        value = work(this.#state);
      } catch (error) {
        // It was undone: there is nothing that a standby would have to know.
        return answer(() => asked.reject(error));
      }
      this.#works.push(work);
      this.#replicate();
      const give = () => answer(() => asked.resolve(value));
      if (this.isReplicated) this.#awaiting.push({ count: this.#works.length, answer: give });
      else give();
    });
    return asked.promise;
  }

  #replicate(): void {
    const { nowMs } = this.#world;
    const count = this.#works.length;
    const primary = this.#primary;
    const delayMs = this.#random.chance(0.05)
      ? this.#random.logBetween(50, 3000)
      : this.#random.logBetween(0.2, 20);
    this.#replicatedAtMs = Math.max(
      this.#replicatedAtMs,
      nowMs + delayMs,
      this.#standbyGoneUntilMs,
    );
    this.#world.at(this.#replicatedAtMs, () => {
      if (primary !== this.#primary) return;
      this.#replicated = Math.max(this.#replicated, count);
      const there = this.#awaiting.filter(({ count }) => count <= this.#replicated);
      this.#awaiting = this.#awaiting.filter(({ count }) => count > this.#replicated);
      for (const { answer } of there) answer();
    });
  }

  /**
   * The lease as its schema has it.
   *
   * @param sentThrough Up to which id the process has put packets on a wire.
   * @param onRefused Called once a holder has been told that the lease is not its own any more.
   */
  tableOf(
    process: Process,
    sentThrough: () => number,
    onRefused: (held: HeldLease) => void,
  ): LeaseTable {
    return {
      look: () => this.read(process, ({ row }) => row),
      take: (seen, holder, tenure, ttlMs) =>
        this.change(process, (state) => {
          const { row } = state;
          if (seen.epoch !== row.epoch || seen.beat !== row.beat) return undefined;
          if (seen.tenure !== row.tenure) return undefined;
          const taken = { epoch: row.epoch + 1, beat: row.beat + 1 };
          state.row = { ...taken, tenure, holder, ttlMs };
          state.fence = { epoch: taken.epoch, tenure };
          const reserved = Math.min(state.reservedThrough, state.packets.length);
          state.sentThrough = Math.max(state.sentThrough, reserved);
          state.reservedThrough = 0;
          return taken;
        }),
      beat: async (held) => {
        const answer = await this.change(process, (state) => {
          const { row } = state;
          if (row.tenure !== held.tenure) return row.epoch > held.epoch ? "taken" : "gone-back";
          if (row.beat < held.beat) return "gone-back";
          if (row.holder === undefined) return "taken";
          state.row = { ...row, beat: row.beat + 1, ttlMs: held.ttlMs };
          return state.row.beat;
        });
        // What the holder makes of it comes before anything else happens.
        if (typeof answer === "string") this.#world.at(this.#world.nowMs, () => onRefused(held));
        return answer;
      },
      leave: (held) => {
        const sent = sentThrough();
        return this.change(process, (state) => {
          if (held.tenure !== state.row.tenure) return;
          state.row = { ...state.row, beat: state.row.beat + 1, holder: undefined };
          state.sentThrough = Math.max(state.sentThrough, Math.min(sent, state.packets.length));
          state.reservedThrough = 0;
        });
      },
      close: () => {},
    };
  }

  /** Stores a packet, once, however often it is asked for. */
  enqueue(process: Process, producer: string, call: number, packet: number): Promise<void> {
    const had = (state: Readonly<State>) => state.calls.get(producer) === call;
    return this.change(process, (state) => {
      if (had(state)) return;
      const known = state.calls.get(producer) ?? 0;
      if (known !== call - 1) throw new RangeError(`it knows ${known} calls`);
      if (state.packets.includes(packet)) this.#world.fail(`packet ${packet} is stored twice`);
      state.packets.push(packet);
      state.calls.set(producer, call);
    });
  }

  /** Reads what a sender is going to send. */
  handOut(process: Process, held: HeldLease, reads: Reads, afterId: number): Promise<number[]> {
    const { tenure } = held;
    const { reader, count } = reads;
    const call = count + 1;
    return this.change(process, (state) => {
      const known = state.calls.get(reader) ?? 0;
      if (tenure !== state.fence.tenure) throw new FencedError("not the sender");
      if (known !== call && known !== call - 1) throw new FencedError(`it knows ${known} reads`);
      const packets = state.packets.slice(afterId, afterId + 8);
      state.reservedThrough = Math.max(state.reservedThrough, afterId + packets.length);
      state.calls.set(reader, call);
      return packets;
    });
  }

  remove(process: Process, held: HeldLease, reads: Reads, through: number): Promise<void> {
    const { epoch, tenure } = held;
    const { reader, count } = reads;
    return this.change(process, (state) => {
      const known = state.calls.get(reader) ?? 0;
      if (tenure !== state.fence.tenure || known < count) {
        this.refusedRemovals++;
        throw new FencedError(`not the sender of epoch ${epoch}`);
      }
      for (let id = state.removedThrough + 1; id <= through; id++) {
        const packet = state.packets[id - 1];
        if (packet === undefined || !this.#server.has(packet)) {
          this.#world.fail(`packet ${packet} with id ${id} was removed and is nowhere`);
        }
      }
      state.removedThrough = Math.max(state.removedThrough, through);
    });
  }
}

/** Who gets the packets. */
class Server {
  readonly #world: World;
  readonly #seen = new Set<number>();
  #newestTerm = 0;
  duplicates = 0;

  constructor(world: World) {
    this.#world = world;
  }

  has(packet: number): boolean {
    return this.#seen.has(packet);
  }

  get delivered(): number {
    return this.#seen.size;
  }

  /** @param mayBeLate Nobody could reset the connection, or know that it should be. */
  receive(packet: number, term: number, mayBeLate: boolean): void {
    if (term < this.#newestTerm && !mayBeLate) {
      this.#world.fail(`packet ${packet} of term ${term} came behind term ${this.#newestTerm}`);
    }
    this.#newestTerm = Math.max(this.#newestTerm, term);
    if (this.#seen.has(packet)) this.duplicates++;
    this.#seen.add(packet);
  }
}

/** Stores packets, one after the other. */
class Producer {
  readonly process: Process;
  stored = 0;

  constructor(
    private readonly world: World,
    private readonly random: SeededRandom,
    private readonly database: Database,
  ) {
    this.process = new Process(world, random);
    void this.#run();
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => void this.process.setTimer(ms, resolve));
  }

  async #run(): Promise<void> {
    let lives = 1;
    let call = 0;
    for (let packet = 1; this.world.nowMs < FAULTS_END_MS; packet++) {
      call++;
      for (;;) {
        try {
          await this.database.enqueue(this.process, `producer ${lives}`, call, packet);
          this.database.acknowledged.add(packet);
          this.stored++;
          break;
        } catch (error) {
          // The database has gone back: nothing of it is stored, and the numbers are nobody's.
          if (error instanceof RangeError) [lives, call] = [lives + 1, 1];
        }
        await this.#rest(100);
      }
      await this.#rest(this.random.between(20, 400));
    }
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
    private readonly lease: Lease,
    private readonly term: number,
    private readonly onAcked: (id: number) => void,
  ) {}

  write(bytes: Uint8Array): Promise<number> {
    if (this.#isOver) return Promise.reject(new Error("the connection is reset"));
    const { world, database, lease, term } = this;
    const { row } = database.state;
    if (row.tenure !== lease.tenure && !database.isForgetful) {
      world.fail(`epoch ${lease.epoch} wrote, and ${row.holder} had begun`);
    }
    const [id = 0, packet = 0] = new Uint32Array(bytes.slice().buffer);
    // One that wrote on what the database has forgotten had told it so before.
    database.written.set(packet, database.isForgetful ? -1 : database.timesBack);
    const writtenAtMs = world.nowMs;
    // A window that is closed for a while keeps it in the Send-Q.
    const isClosed = world.nowMs < FAULTS_END_MS && this.random.chance(0.05);
    const delayMs = isClosed ? this.random.logBetween(100, 20_000) : this.random.between(0.1, 5);
    // In order: nothing passes what waits.
    this.#arrivesAtMs = Math.max(this.#arrivesAtMs, world.nowMs + delayMs);
    world.at(this.#arrivesAtMs, () => {
      if (this.#isOver) return;
      const mayBeLate = this.process.pausedAtMs >= writtenAtMs || database.isForgetful;
      this.server.receive(packet, term, mayBeLate);
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
    private readonly ttlMs: number,
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
  /** Up to which id something was on a wire under this lease. */
  #sentThrough = 0;
  #hasReleased = false;

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => void this.process.setTimer(ms, resolve));
  }

  async #run(): Promise<void> {
    for (;;) {
      const lease = this.#lease = await Lease.take({
        table: this.database.tableOf(
          this.process,
          () => this.#sentThrough,
          (held) => this.#checkLost(held),
        ),
        clock: this.process,
        ttlMs: this.ttlMs,
        holder: this.name,
        path: "queue",
        waits: true,
        tell: () => {},
      });
      this.#sentThrough = 0;
      this.#hasReleased = false;
      const term = ++this.world.terms;
      const reads = { reader: `reader ${term}`, count: 0 };
      let isLost = false;
      lease.subscribeLost(() => isLost = true);
      while (!isLost) {
        try {
          await this.#deliver(lease, term, reads);
        } catch (error) {
          if (error instanceof FencedError) break;
        }
        this.#wire?.abort();
        await this.#rest(100);
      }
      this.#wire?.abort();
      this.#hasReleased = true;
      await lease.release();
      await this.#rest(200);
    }
  }

  /** Whoever was told that another one sends says so, and does not wait for a right it never gets. */
  #checkLost({ tenure, epoch }: HeldLease): void {
    const lease = this.#lease;
    if (this.process.isDead || lease?.tenure !== tenure || this.#hasReleased) return;
    if (lease.lost === undefined) {
      this.world.fail(`epoch ${epoch} was told that it is over, and is not lost`);
    }
  }

  /** One connection, until it breaks. */
  async #deliver(
    lease: Lease,
    term: number,
    reads: { readonly reader: string; count: number },
  ): Promise<void> {
    const { database, world, process } = this;
    const from = await database.read(process, (state) => {
      if (state.row.tenure === lease.tenure) this.#checkMark(state);
      return state.removedThrough;
    });
    let ackedId = from;
    let writtenId = from;
    let isReading = false;
    let ahead: readonly { readonly id: number; readonly packet: number }[] = [];
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
          lease,
          term,
          (id) => ackedId = Math.max(ackedId, id),
        );
        return this.#wire;
      },
    };
    const wire = await tenuredDialer(dialer, lease).dial(new AbortController().signal);
    const readAhead = async (): Promise<void> => {
      const afterId = writtenId;
      const packets = await database.handOut(process, lease, { ...reads }, afterId);
      reads.count++;
      ahead = packets.map((packet, i) => ({ id: afterId + 1 + i, packet }));
    };
    while (!(this.#wire?.isOver ?? true)) {
      const [next, ...rest] = ahead;
      if (next !== undefined && writtenId - ackedId < 5) {
        ahead = rest;
        writtenId = next.id;
        this.#sentThrough = Math.max(this.#sentThrough, writtenId);
        await wire.write(new Uint8Array(Uint32Array.of(next.id, next.packet).buffer));
      } else if (next === undefined && !isReading) {
        isReading = true;
        readAhead().catch((error) => {
          if (error instanceof FencedError) fenced = error;
        }).finally(() => isReading = false);
      }
      // Delivery goes on meanwhile, and whatever becomes of it.
      if (ackedId > from && !isRemoving && this.random.chance(0.3)) {
        isRemoving = true;
        database.remove(process, lease, { ...reads }, ackedId).catch((error) => {
          if (error instanceof FencedError) fenced = error;
        }).finally(() => isRemoving = false);
      }
      if (fenced !== undefined) throw fenced;
      await this.#rest(this.random.between(5, 50));
    }
    throw new Error("the connection was reset");
  }

  /** What may have been on a wire is known to the next sender, or it would tell too little. */
  #checkMark({ packets, removedThrough, sentThrough, reservedThrough }: Readonly<State>): void {
    const { written, timesBack } = this.database;
    for (
      let id = Math.max(removedThrough, sentThrough, reservedThrough) + 1;
      id <= packets.length;
      id++
    ) {
      const packet = packets[id - 1];
      // A database that went back has forgotten that, too.
      if (packet === undefined || written.get(packet) !== timesBack) continue;
      this.world.fail(`packet ${packet} was on a wire, and the next sender does not know`);
    }
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
  // Dice of their own, so that worlds in which all have the same are as they were.
  const ttls = new SeededRandom(seed ^ 0x5bd1e995);
  const ttlsMs = ttls.chance(0.5) ? [TTL_MS] : TTLS_MS;
  const database = new Database(world, random.fork(), server, Math.max(...ttlsMs));
  let started = 0;
  let connections = 0;
  const start = () => {
    const name = `process ${++started}`;
    return new SendingProcess(world, random.fork(), database, server, name, ttls.pick(ttlsMs));
  };
  const senders = Array.from({ length: random.int(2, 3) }, start);
  const faults = random.fork();

  new Producer(world, random.fork(), database);
  const fault = () => {
    if (world.nowMs > FAULTS_END_MS) return;
    const index = faults.int(0, senders.length - 1);
    const sender = senders[index];
    if (sender === undefined) return;
    const kind = faults.next();
    if (kind < 0.35) sender.process.pause(faults.logBetween(10, 20_000));
    else if (kind < 0.65) sender.process.cutOff(faults.logBetween(500, 10_000));
    else if (kind < 0.72) database.goAway(faults.logBetween(50, 8000));
    else if (kind < 0.78) database.loseStandby(faults.logBetween(50, 5000));
    else if (kind < 0.84) {
      database.failOver();
      database.goAway(faults.logBetween(50, 5000));
    } else {
      connections += sender.connections;
      if (kind < 0.92) sender.kill();
      else sender.stop();
      senders[index] = start();
    }
    world.at(world.nowMs + faults.logBetween(20, 8000), fault);
  };
  world.at(faults.between(0, 5000), fault);

  await world.run(RUN_MS);
  const { packets, removedThrough, row } = database.state;
  if (removedThrough < packets.length) {
    world.fail(
      `a minute after the last fault ${packets.length - removedThrough} of ` +
        `${packets.length} packets are still there, epoch ${row.epoch}`,
    );
  }
  let forgotten = 0;
  for (const packet of database.acknowledged) {
    if (server.has(packet)) continue;
    if (database.forgotten.has(packet)) forgotten++;
    else world.fail(`packet ${packet} was acknowledged and is nowhere`);
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
    accepted: database.acknowledged.size,
    delivered: server.delivered,
    duplicates: server.duplicates,
    // With a database that went back.
    lostUnread: forgotten,
    dead: 0,
    connections,
  };
}
