/**
 * What must always hold, seen from outside: the checker knows what the disk
 * committed, what the kernels took and acknowledged, and what the server's
 * program read. It asks the code under test for nothing but its published state.
 *
 * @module
 */

import { TcpState } from "../src/base/ports.ts";
import { HOLD_GRAIN_MS } from "../src/delivery/hold.ts";
import { MAX_COUNTED_GAP_MS, type Verdict } from "../src/delivery/liveness.ts";
import type { DeliveryStats, DeliveryStatus } from "../src/delivery/status.ts";
import type { Supervisor, SupervisorLimits } from "../src/delivery/supervisor.ts";
import type { DeathReason } from "../src/queue/store/types.ts";
import type { DiskWatcher, SimDisk } from "./disk.ts";
import { SESSION_TAGS, sessionBytesOf, StreamReader, tagOf } from "./packet.ts";
import type { Scheduler, SimProcess } from "./scheduler.ts";
import type { ProgramEvents, ServerWatcher } from "./server.ts";
import type { SimWire, WireWatcher } from "./wire.ts";

/** A packet's life. */
interface Packet {
  readonly tag: number;
  readonly size: number;
  id: number;
  onDisk: boolean;
  written: boolean;
  delivered: number;
  readonly producedAtMs: number;
  /** When it is not worth sending any more, in the queue's time. */
  expiresAtMs: number;
  /** It became a dead letter, and was not put back. */
  dead: boolean;
  /** Connections in which it was sent. */
  sentIn: Connection[];
  /** Received by a server's kernel whose program died before reading it. */
  lostUnread: boolean;
  acks: {
    readonly connection: Connection;
    /** Where it ends in that connection's stream. */
    readonly end: number;
    readonly hostMs: number;
    readonly atMs: number;
  }[];
  /** What the server's program has said to it. */
  answers: { readonly connection: Connection; readonly accepted: boolean }[];
}

/** A connection's life, as its host's kernel saw it. */
interface Connection {
  readonly wire: SimWire;
  readonly openedAtMs: number;
  /** Since when everything written is acknowledged. */
  emptySinceMs: number;
  readonly openedQueueMs: number;
  readonly reader: StreamReader;
  /** With the ids that they had: a dead letter that is put back has another one. */
  readonly packets: { readonly packet: Packet; readonly id: number; readonly end: number }[];
  drained: number;
  /** When the first of them was. */
  drainedAtMs: number;
  /** (end offset, when) of writes that are not acknowledged. */
  writes: { readonly end: number; readonly atMs: number }[];
  lastId: number;
  diedAtMs: number | undefined;
  diedHostMs: number;
  releasedHostMs: number;
  releasedAtMs: number;
  /** Signs of life that may have come too late to be read, behind the last that was for sure. */
  recentSignsMs: number[];
  /** Up to when the peer surely vouched for what it had acknowledged. */
  vouchedUntilMs: number;
  /** When the last sign of life came before the process gave the connection back. */
  signAtReleaseMs: number;
  /** When the server's program last took bytes from its kernel. */
  takenAtMs: number;
  /** How many, while the process had the connection. */
  takenBytes: number;
  /** When it did so after a stall longer than a hold. */
  resumedReadingAtMs: number;
  /** How far the peer was ever ready to take, and when that last grew. */
  edge: number;
  edgeMovedAtMs: number;
  /** When the window was last seen shut, and since when it is. */
  shutAtMs: number;
  shutSinceMs: number;
  /** When its window was last too small for a segment, with nothing in flight. */
  windowClosedAtMs: number;
  /** Something of it was confirmed. */
  fruitful: boolean;
  /** Its session is not open yet. */
  opening: boolean;
  /** Where the login ends, once it goes out. */
  loginEnd: number | undefined;
  /** The server has answered it. */
  loggedIn: boolean;
  /** When the kernel last took bytes. */
  writtenAtMs: number;
  /** How things stood when the first byte of the last message was written. */
  began: { readonly quietMs: number; readonly ackedThrough: number };
  /** When a heartbeat went out that the server has not answered. */
  askedAtMs: number | undefined;
  /** When the last one went out. */
  beatAtMs: number;
  saidGoodbye: boolean;
  /** The server's program has answered a packet of it. */
  answered: boolean;
  /** It has done so, or may seem to, before the packet was acknowledged. */
  answeredEarly: boolean;
  /** When another connection came that takes its place. */
  replacedAtMs: number;
}

/** After a refusal. */
interface Pause {
  readonly firstMs: number;
  readonly capMs: number;
}

/** What the checker needs to know of the run. */
export interface CheckerOptions {
  readonly scheduler: Scheduler;
  readonly hostNowMs: () => number;
  readonly queueMs: () => number;
  /** Packets that the server's program dies of, by their tags. */
  readonly poison: ReadonlySet<number>;
  readonly limits: SupervisorLimits;
  readonly rtoMaxMs: number;
  readonly timerLateMs: number;
  /** The server connects to the sender. */
  readonly listens: boolean;
  /** How many servers the sender has to choose from. */
  readonly servers: number;
  readonly trace: (line: () => string) => void;
}

/** What a sender counts that only grows. */
type Counted = Pick<DeliveryStats, "confirmedPackets" | "drainedPackets" | "ackedBytes">;
const NOTHING_COUNTED: Counted = { confirmedPackets: 0, drainedPackets: 0, ackedBytes: 0 };

/** How late anything may be beside its own limit: a poll, a late timer, jiffies. */
const SLACK_MS = 120;
const TICK_MS = 500;
/** Grain of the kernel's clock. */
const JIFFY_MS = 4;
/** So many timers one process may have set; more would be a leak. */
const MAX_TIMERS = 12;
/** So many connections in a row without a confirmation are a storm, if they come so fast. */
const STORM_CONNECTIONS = 30;
const STORM_MS = 4000;
/** After so many of them one packet goes at a time: 2^20 is more than any window holds. */
const FRUITLESS_ALONE = 24;
/** That the program has read is heard so much later: what told it may be lost on the way. */
const READ_NOTICE_MS = 5000;
/** A kernel that hides what was acknowledged is found out by then. */
const CONTRADICTION_NOTICE_MS = 3500;
/** A connection's death is told within its settling second and an idle poll. */
const DEATH_NOTICE_MS = 2000;
/** A connection whose place was taken is over at once, or within an idle poll. */
const REPLACED_NOTICE_MS = 1500;

/** Watches one run. */
export class Checker implements WireWatcher, DiskWatcher, ServerWatcher {
  readonly #options: CheckerOptions;
  readonly #scheduler: Scheduler;
  readonly #packets = new Map<number, Packet>();
  readonly #byId = new Map<number, Packet>();
  /** Ids of packets in rows of which a byte has changed on the disk. */
  readonly #changedIds = new Set<number>();
  /** Ids that became dead letters, whatever became of those. */
  readonly #buriedIds = new Set<number>();
  readonly #connections = new Map<SimWire, Connection>();
  readonly #byNumber = new Map<number, Connection>();
  readonly #appReaders = new Map<number, { reader: StreamReader; packets: number }>();
  #largestPacketBytes = 0;
  #disk: SimDisk | undefined;

  #process: SimProcess | undefined;
  #supervisor: Supervisor | undefined;
  /** What it has counted so far. */
  #counted = NOTHING_COUNTED;
  /** How many packets left the disk in its life that did not become dead letters. */
  #removedInLife = 0;
  /** Since when the process has neither been stopped nor lost its sense of time. */
  #resumedAtMs = 0;
  /** Whether a clock has jumped. What was handed out before may then go out late. */
  #clocksJumped = false;
  /** Whether a process has begun since: it cannot know how much time has passed. */
  #timeWasLost = false;
  /** When it was stopped, and until when. */
  #stops: { readonly fromMs: number; untilMs: number }[] = [];
  #stopped = false;
  #clockJumps = 0;
  #status: {
    readonly state: DeliveryStatus["state"];
    readonly sinceMs: number;
    /** After a refusal. */
    pause: Pause | undefined;
  } | undefined;
  /** The server that the last attempt has gone to. */
  #headedFor = 0;
  /** When each has refused us last, and the pause after that. */
  readonly #refusedBy = new Map<number, { readonly atMs: number; readonly pause: Pause }>();
  /** The last connection that was given back, at that moment. */
  #atRelease: {
    readonly state: number;
    readonly idle: boolean;
    readonly asking: boolean;
    readonly rttMs: number;
    readonly silenceMs: number;
    readonly stalledMs: number;
    readonly beatMs: number;
    /** Since the first packet was acknowledged. */
    readonly unansweredMs: number;
    readonly answeredEarly: boolean;
  } | undefined;
  /** When connections broke, but for those that the sender has ended for a reason of its own. */
  readonly #brokeAtMs: number[] = [];
  #fruitful = false;
  /** Connections in a row of which nothing was confirmed: when, and whether packets went out. */
  #fruitless: { readonly atMs: number; carried: boolean }[] = [];
  #accepted = 0;
  #deliveries = 0;

  /** The sender was told to end. */
  closing = false;
  /** What was violated first. */
  violation: string | undefined;
  /** Counters for the end of a run. */
  readonly totals = { connections: 0, duplicates: 0, lostUnread: 0, dead: 0 };

  /** Starts watching. */
  constructor(options: CheckerOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler;
    const tick = (): void => {
      this.#tick();
      this.#scheduler.after(TICK_MS, tick);
    };
    this.#scheduler.after(TICK_MS, tick);
  }

  /** The disk whose ids are the truth. */
  watch(disk: SimDisk): void {
    this.#disk = disk;
  }

  /** Packets whose enqueue resolved. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Packets that the server's program has read, each once. */
  get delivered(): number {
    return this.#deliveries;
  }

  // --- what the producer sees ---

  /** A packet is about to be enqueued. */
  producing(tag: number, size: number, expiresAtMs: number): void {
    this.#largestPacketBytes = Math.max(this.#largestPacketBytes, size);
    this.#packets.set(tag, {
      tag,
      size,
      id: 0,
      onDisk: false,
      written: false,
      delivered: 0,
      producedAtMs: this.#scheduler.nowMs,
      expiresAtMs,
      dead: false,
      sentIn: [],
      lostUnread: false,
      acks: [],
      answers: [],
    });
  }

  /** Its enqueue resolved. */
  enqueued(tag: number, id: number): void {
    const packet = this.#packets.get(tag);
    this.#accepted++;
    if (packet === undefined || packet.id !== id) {
      return this.fail(`enqueue of packet ${tag} resolved with id ${id}, which it has not`);
    }
    if (!packet.onDisk && packet.acks.length === 0) {
      this.fail(`enqueue resolved, but packet ${id} is neither on disk nor acknowledged`);
    }
  }

  /** Its enqueue rejected. */
  refused(tag: number): void {
    const packet = this.#packets.get(tag);
    if (packet !== undefined && packet.id !== 0) {
      this.fail(`enqueue rejected, but packet ${packet.id} was stored`);
    }
  }

  // --- the disk ---

  stored(id: number, payload: Uint8Array): void {
    const packet = this.#packets.get(tagOf(payload));
    if (packet === undefined) return this.fail(`packet ${id} on disk is nobody's`);
    if (packet.dead) {
      // Put back: a new life under a new id.
      Object.assign(packet, { dead: false, written: false, expiresAtMs: Infinity });
      packet.sentIn = [];
      packet.acks = [];
      packet.answers = [];
    }
    packet.id = id;
    packet.onDisk = true;
    this.#byId.set(id, packet);
  }

  removed(id: number): void {
    const packet = this.#byId.get(id);
    if (packet === undefined) return this.fail(`packet ${id} was removed and never stored`);
    packet.onDisk = false;
    this.#removedInLife++;
    if (packet.dead) this.fail(`packet ${id} was removed, and is a dead letter`);
    for (const { connection } of packet.acks) {
      if (connection.releasedHostMs === Infinity) connection.fruitful = true;
    }
    if (!this.#mayBeConfirmed(packet)) {
      const { holdMs, answers, reads } = this.#options.limits;
      const best = packet.acks.at(-1);
      if (reads) {
        return this.fail(`packet ${id} was removed, and the server's program has not read it`);
      }
      if (answers !== undefined) {
        const said = packet.answers.at(-1);
        return this.fail(
          `packet ${id} was removed from disk, and the server's program ` +
            (said === undefined ? "has not answered it" : "did not accept it as a whole"),
        );
      }
      this.fail(
        `packet ${id} was removed from disk, ` +
          (best === undefined
            ? "and no kernel ever acknowledged it"
            : `but no living connection had held it for ${holdMs} ms: ` +
              `acknowledged ${(this.#options.hostNowMs() - best.hostMs).toFixed(1)} ms ago`),
      );
    }
  }

  /** A packet became a dead letter. */
  buried(id: number, reason: DeathReason, attempts: number): void {
    const packet = this.#byId.get(id);
    if (packet === undefined) return this.fail(`packet ${id} was buried and never stored`);
    packet.dead = true;
    packet.onDisk = false;
    this.#buriedIds.add(id);
    this.totals.dead++;
    const { limits } = this.#options;
    const queueMs = this.#options.queueMs();
    const underWay = packet.sentIn.some(({ releasedHostMs }) => releasedHostMs === Infinity);
    const sent = packet.sentIn.length;
    if (reason === "damaged") {
      if (!this.#changedIds.has(id)) this.fail(`packet ${id} is sound, and was buried as damaged`);
      return;
    }
    if (reason === "refused") {
      const refusals = packet.answers.filter(({ accepted, connection }) =>
        !accepted && connection.wire.process === this.#process
      );
      // Behind one that is not answered it confirms nothing yet.
      const [firstId = Infinity] = this.#disk?.ids ?? [];
      for (const { connection } of refusals) {
        if (firstId > id && connection.releasedHostMs === Infinity) connection.fruitful = true;
      }
      if (refusals.length === 0) {
        this.fail(`packet ${id} was buried as refused, and the server did not refuse it`);
      }
      if (limits.answers?.onRefused !== "dead-letter") {
        this.fail(`packet ${id} was buried as refused, and was to be tried again`);
      }
      return;
    }
    if (underWay) this.fail(`packet ${id} was buried while it was under way`);
    // The file keeps whole milliseconds.
    if (reason === "expired" && packet.expiresAtMs - 1 > queueMs && !this.#timeWasLost) {
      this.fail(`packet ${id} expired ${packet.expiresAtMs - queueMs} ms too early`);
    }
    if (reason === "gave-up" && (attempts < limits.maxAttempts || sent === 0)) {
      this.fail(`packet ${id} was given up after ${attempts} attempts, and sent ${sent} times`);
    }
    const broken = this.#brokeAtMs.filter((atMs) => atMs >= packet.producedAtMs).length;
    if (reason === "gave-up" && attempts > 0 && broken < limits.maxAttempts) {
      this.fail(`packet ${id} was given up, and only ${broken} connections broke`);
    }
    // One that was refused there, and put back since under another id, had its answer.
    const company = packet.sentIn.at(-1)?.packets.find(({ packet: other, id: sentAs }) =>
      other !== packet && other.onDisk && other.id === sentAs && !this.#mayBeConfirmed(other)
    );
    if (reason === "gave-up" && company !== undefined) {
      this.fail(`packet ${id} was given up, but ${company.packet.id} was under way beside it`);
    }
  }

  /** A byte of the row with these packets has changed on the disk. */
  changed(ids: readonly number[]): void {
    for (const id of ids) this.#changedIds.add(id);
  }

  // --- the sender's process ---

  /** A new life begins. */
  started(process: SimProcess, supervisor: Supervisor): void {
    this.#process = process;
    this.#supervisor = supervisor;
    this.#counted = NOTHING_COUNTED;
    this.#removedInLife = 0;
    this.#timeWasLost = this.#clocksJumped;
    this.#resumedAtMs = this.#scheduler.nowMs;
    this.#fruitful = false;
    this.#fruitless = [];
    this.#refusedBy.clear();
    this.closing = false;
  }

  /** It ended, one way or another. */
  ended(): void {
    for (const connection of this.#connections.values()) {
      if (connection.releasedHostMs === Infinity) connection.wire.kill();
    }
    this.#supervisor = undefined;
    this.#status = undefined;
  }

  /** It is stopped, or continues. */
  stopped(stopped: boolean): void {
    this.#stopped = stopped;
    const { nowMs } = this.#scheduler;
    this.#resumedAtMs = nowMs;
    const last = this.#stops.at(-1);
    if (last?.untilMs === Infinity) last.untilMs = nowMs;
    if (stopped) this.#stops.push({ fromMs: nowMs, untilMs: Infinity });
  }

  /** Its clock jumps, as that of a virtual machine may. */
  clockJumped(): void {
    this.#clockJumps++;
    this.#clocksJumped = true;
    this.#resumedAtMs = this.#scheduler.nowMs;
  }

  /** The wall clock was set. */
  wallClockJumped(): void {
    this.#clocksJumped = true;
  }

  /** The supervisor has published a change. */
  status({ state, verdict, words }: DeliveryStatus): void {
    this.#options.trace(() => `sender: ${state}: ${words}`);
    const nowMs = this.#scheduler.nowMs;
    const before = this.#status?.state;
    if (this.#status === undefined || before !== state) {
      this.#status = { state, sinceMs: nowMs, pause: undefined };
    }
    const { session, answers } = this.#options.limits;
    if (verdict.kind === "session-refused") {
      const { refusedBackoffFirstMs = 0, refusedBackoffCapMs = 0 } = session ?? {};
      this.#status.pause = { firstMs: refusedBackoffFirstMs, capMs: refusedBackoffCapMs };
    } else if (verdict.kind === "packet-refused" && words.startsWith("connection given up")) {
      const { retryFirstMs = 0, retryCapMs = 0 } = answers ?? {};
      this.#status.pause = { firstMs: retryFirstMs, capMs: retryCapMs };
    }
    const { pause } = this.#status;
    if (pause !== undefined && state === "backing-off" && before !== state) {
      this.#refusedBy.set(this.#headedFor, { atMs: nowMs, pause });
    }
    // Who has nothing to send forgets what it was waiting for.
    if (state === "idle") this.#refusedBy.clear();
    if (state === "connected") {
      for (const connection of this.#connections.values()) this.#opened(connection);
    }
    if (!words.startsWith("connection given up")) return;
    // Counters that contradict each other are a reason of their own.
    if (verdict.kind === "local-fault" && verdict.fault.kind === "unreadable") return;
    if (verdict.kind !== "ended-here") this.#brokeAtMs.push(nowMs);
    // A refusal says that the server works.
    if (verdict.kind === "packet-refused") this.#fruitless.pop();
    this.#judgeGivingUp(verdict);
  }

  /** Given up by decision: was there reason to? */
  #judgeGivingUp(found: Verdict): void {
    const verdict = found.kind;
    const seen = this.#atRelease;
    if (seen === undefined || seen.state === TcpState.CLOSE) return;
    const { stallTimeoutMs, keepAlive, peerStallTimeoutMs, session } = this.#options.limits;
    if (found.kind === "no-response" && found.to === "answers" && this.#clockJumps === 0) {
      const dueMs = this.#options.limits.answers?.answerTimeoutMs ?? 0;
      if (seen.unansweredMs < dueMs - 10) {
        this.fail(`false alarm: no answer for only ${seen.unansweredMs.toFixed(0)} ms`);
      }
    } else if (verdict === "no-response" && this.#clockJumps === 0) {
      const dueMs = session?.heartbeat?.answerTimeoutMs ?? Infinity;
      // A write in parts takes its time.
      if (seen.beatMs < dueMs - 10 - 8 * this.#options.timerLateMs) {
        this.fail(`false alarm: ${verdict} ${seen.beatMs.toFixed(0)} ms after a heartbeat`);
      }
    }
    if (verdict === "wrong-answer" && !seen.answeredEarly) {
      this.fail("false alarm: each answer was to a packet, or to a heartbeat");
    }
    const silent = verdict === "path-dead" || verdict === "local-fault";
    if (!silent && verdict !== "peer-stalled") return;
    const limitMs = !silent
      ? peerStallTimeoutMs
      : seen.idle && !seen.asking
      ? keepAlive?.timeoutMs ?? Infinity
      : Math.max(stallTimeoutMs, 2 * seen.rttMs);
    const waitedMs = silent ? seen.silenceMs : seen.stalledMs;
    // A jump of the process's clock counts for as much as one gap between two readings.
    const jumpedMs = this.#clockJumps * MAX_COUNTED_GAP_MS;
    if (waitedMs < limitMs - JIFFY_MS - 1 - jumpedMs) {
      this.fail(`false alarm: ${verdict} after only ${waitedMs.toFixed(0)} ms`);
    }
  }

  /** Whether each server may be on its pause after a refusal: else another one can be asked. */
  #allRefused(nowMs: number): boolean {
    const refused = [...this.#refusedBy.values()].filter(({ atMs, pause }) =>
      nowMs - atMs < pause.capMs
    );
    return refused.length === this.#options.servers;
  }

  #pauseCeilingMs({ capMs }: Pause): number {
    // Of several servers another is asked like after any failure.
    return this.#options.servers === 1 ? capMs : Math.max(capMs, this.#options.limits.backoffCapMs);
  }

  // --- the sender's sockets ---

  /** The next attempt goes to this one of several servers. */
  headsFor(server: number): void {
    this.#headedFor = server;
  }

  dialed(): void {
    const nowMs = this.#scheduler.nowMs;
    const status = this.#status;
    const refused = this.#refusedBy.get(this.#headedFor);
    if (status?.state === "backing-off" && this.#resumedAtMs < status.sinceMs) {
      const { backoffFirstMs, backoffCapMs } = this.#options.limits;
      const waitedMs = nowMs - status.sinceMs;
      const refusedMs = nowMs - (refused?.atMs ?? -Infinity);
      const leastMs = (refused?.pause.firstMs ?? 0) / 2;
      const isJudged = this.#clockJumps === 0 && this.#resumedAtMs < (refused?.atMs ?? 0);
      if (refusedMs < leastMs - 1 && isJudged) {
        this.fail(`tried again ${refusedMs.toFixed(0)} ms after the server had refused`);
      }
      const ceilingMs = status.pause !== undefined && this.#allRefused(status.sinceMs)
        ? this.#pauseCeilingMs(status.pause)
        : this.#fruitful
        ? Math.min(backoffFirstMs, backoffCapMs)
        : backoffCapMs;
      if (waitedMs > ceilingMs + SLACK_MS) {
        this.fail(
          `backed off for ${waitedMs.toFixed(0)} ms, the ceiling ` +
            `${this.#fruitful ? "after a confirmation " : ""}is ${ceilingMs} ms`,
        );
      }
    }
    this.#fruitful = false;
  }

  lookUpGivenUp(waitedMs: number): void {
    const { lookUpTimeoutMs } = this.#options.limits;
    const excused = this.closing || this.#clockJumps > 0 || this.#stops.length > 0;
    if (waitedMs < lookUpTimeoutMs - 1 && !excused) {
      this.fail(`the look-up was given up after ${waitedMs.toFixed(0)} ms`);
    }
  }

  opened(wire: SimWire): void {
    this.totals.connections++;
    const connection: Connection = {
      wire,
      openedAtMs: this.#scheduler.nowMs,
      emptySinceMs: this.#scheduler.nowMs,
      openedQueueMs: this.#options.queueMs(),
      reader: new StreamReader(this.#sizeOf, false),
      packets: [],
      drained: 0,
      drainedAtMs: Infinity,
      writes: [],
      lastId: -1,
      diedAtMs: undefined,
      diedHostMs: Infinity,
      releasedHostMs: Infinity,
      releasedAtMs: Infinity,
      recentSignsMs: [this.#scheduler.nowMs],
      vouchedUntilMs: Infinity,
      signAtReleaseMs: Infinity,
      takenAtMs: this.#scheduler.nowMs,
      takenBytes: 0,
      resumedReadingAtMs: -Infinity,
      edge: 0,
      edgeMovedAtMs: this.#scheduler.nowMs,
      shutAtMs: -Infinity,
      shutSinceMs: Infinity,
      windowClosedAtMs: -Infinity,
      fruitful: false,
      opening: this.#options.limits.session?.open !== undefined,
      loginEnd: undefined,
      loggedIn: false,
      writtenAtMs: this.#scheduler.nowMs,
      began: { quietMs: 0, ackedThrough: 0 },
      askedAtMs: undefined,
      beatAtMs: -Infinity,
      saidGoodbye: false,
      answered: false,
      answeredEarly: false,
      replacedAtMs: Infinity,
    };
    this.#checkStorm();
    this.#connections.set(wire, connection);
    this.#byNumber.set(wire.end.connection, connection);
    if (wire.end.state === TcpState.CLOSE) this.died(wire);
  }

  arrived(): void {
    for (const connection of this.#connections.values()) {
      if (connection.wire.process !== this.#process) continue;
      connection.replacedAtMs = Math.min(connection.replacedAtMs, this.#scheduler.nowMs);
    }
  }

  written(wire: SimWire, bytes: Uint8Array): void {
    const connection = this.#connections.get(wire);
    if (connection === undefined) return;
    if (connection.replacedAtMs < Infinity) {
      this.fail(`connection ${wire.end.connection} is written to, and the server has a newer one`);
    }
    for (const other of this.#connections.values()) {
      if (other !== connection && other.wire.process === wire.process) this.#mustBeOver(other);
    }
    const { reader } = connection;
    const { nowMs } = this.#scheduler;
    const ackedThrough = wire.end.sendUna;
    const firstAt = reader.offset;
    if (reader.isBetween) {
      connection.began = { quietMs: nowMs - connection.writtenAtMs, ackedThrough };
    }
    const wrong = reader.feed(bytes, (tag, end) => {
      if (end - (this.#sizeOf(tag) ?? 0) > firstAt) connection.began = { quietMs: 0, ackedThrough };
      if (connection.saidGoodbye) this.fail("something goes out behind the goodbye");
      const packet = this.#packets.get(tag);
      if (packet !== undefined) this.#packetGoes(connection, packet, end);
      else this.#sessionGoes(connection, tag, end);
    }, () => {});
    connection.writtenAtMs = nowMs;
    if (!reader.isBetween && reader.headerAt > firstAt) {
      connection.began = { quietMs: 0, ackedThrough };
    }
    if (wrong !== undefined) this.fail(`the sender's stream is not whole packets: ${wrong}`);
    connection.writes.push({ end: connection.reader.offset, atMs: this.#scheduler.nowMs });
  }

  acked(wire: SimWire): void {
    const connection = this.#connections.get(wire);
    if (connection === undefined || connection.releasedHostMs !== Infinity) return;
    const { sendUna } = wire.end;
    const hostMs = this.#options.hostNowMs();
    for (;;) {
      const next = connection.packets[connection.drained];
      if (next === undefined || next.end > sendUna) break;
      const { packet, end } = next;
      packet.acks.push({ connection, end, hostMs, atMs: this.#scheduler.nowMs });
      connection.drained++;
      connection.drainedAtMs = Math.min(connection.drainedAtMs, this.#scheduler.nowMs);
    }
    while (connection.writes[0] !== undefined && connection.writes[0].end <= sendUna) {
      connection.writes.shift();
      connection.emptySinceMs = this.#scheduler.nowMs;
    }
  }

  heard(wire: SimWire): void {
    const connection = this.#connections.get(wire);
    if (connection === undefined || connection.releasedHostMs !== Infinity) return;
    const { nowMs } = this.#scheduler;
    connection.recentSignsMs.push(nowMs);
    this.#lastReadSign(connection);
    const { sendWindowBytes = 0, sendMssBytes } = wire.end.sample();
    const edge = wire.end.sendUna + sendWindowBytes;
    if (edge > connection.edge) connection.edgeMovedAtMs = nowMs;
    connection.edge = Math.max(connection.edge, edge);
    if (sendWindowBytes >= sendMssBytes) connection.shutSinceMs = Infinity;
    else {
      connection.shutAtMs = nowMs;
      connection.shutSinceMs = Math.min(connection.shutSinceMs, nowMs);
    }
  }

  died(wire: SimWire): void {
    const connection = this.#connections.get(wire);
    if (connection === undefined || connection.diedAtMs !== undefined) return;
    connection.diedAtMs = this.#scheduler.nowMs;
    this.#endHold(connection);
    connection.diedHostMs = this.#options.hostNowMs();
    this.#options.trace(() =>
      `kernel: connection ${wire.end.connection} ${wire.end.orderly ? "ended in order" : "died"}`
    );
  }

  #lastReadSign({ recentSignsMs }: Connection): number {
    const readMs = this.#scheduler.nowMs - SLACK_MS;
    while ((recentSignsMs[1] ?? Infinity) <= readMs) recentSignsMs.shift();
    return recentSignsMs[0] ?? 0;
  }

  /** What came within the last moments may not have been read any more. */
  #endHold(connection: Connection): void {
    connection.vouchedUntilMs = Math.min(
      connection.vouchedUntilMs,
      this.#lastReadSign(connection),
    );
  }

  released(wire: SimWire, how: "abort" | "close" | "killed"): void {
    const connection = this.#connections.get(wire);
    if (connection === undefined) return;
    const { end } = wire;
    this.#options.trace(() =>
      `sender: ${how} of connection ${end.connection} with ${end.unackedBytes} unacknowledged bytes`
    );
    connection.releasedHostMs = this.#options.hostNowMs();
    connection.releasedAtMs = this.#scheduler.nowMs;
    connection.signAtReleaseMs = this.#lastSignMs(connection);
    this.#endHold(connection);
    if (how !== "killed") {
      if (how === "close" && end.unackedBytes > 0 && end.state !== TcpState.CLOSE) {
        this.fail(
          `closed a connection with ${end.unackedBytes} unacknowledged bytes: ` +
            `the kernel goes on delivering them`,
        );
      }
      if (how === "close" && this.#hasUnconfirmed(connection)) {
        this.fail("closed a connection in order, of whose packets some come again");
      }
      this.#checkSilence(connection);
      const idle = connection.writes.length === 0;
      const { nowMs } = this.#scheduler;
      // What passed while the process was stopped is nobody's silence.
      const sinceMs = idle ? end.lastReceivedAtMs : this.#silenceBegan(connection);
      this.#atRelease = {
        state: end.state,
        idle,
        asking: wire.asking,
        rttMs: end.srttMs,
        silenceMs: nowMs - sinceMs - (idle ? 0 : this.#asleepMs(sinceMs)),
        stalledMs: nowMs -
          (this.#options.limits.reads
            ? Math.min(connection.edgeMovedAtMs, connection.takenAtMs)
            : connection.edgeMovedAtMs),
        beatMs: nowMs - connection.beatAtMs - this.#asleepMs(connection.beatAtMs),
        unansweredMs: nowMs - connection.drainedAtMs - this.#asleepMs(connection.drainedAtMs),
        answeredEarly: connection.answeredEarly || end.hadHidden,
      };
      this.#fruitful = connection.fruitful && !this.#stopped;
    }
    const last = this.#fruitless.at(-1);
    if (last !== undefined) last.carried = connection.packets.length > 0;
    // What was read just before the end may be heard of, and is removed after it.
    const read = this.#options.limits.reads &&
      connection.packets.some(({ packet }) => this.#isRead(packet));
    if (connection.fruitful || read) this.#fruitless = [];
    // Nothing of a session that was not opened could have been confirmed.
    if (connection.opening) this.#fruitless.pop();
    this.#connections.delete(wire);
  }

  /** A server that takes everything and confirms nothing must not be stormed. */
  #checkStorm(): void {
    const { nowMs } = this.#scheduler;
    this.#fruitless.push({ atMs: nowMs, carried: false });
    const first = this.#fruitless.at(-STORM_CONNECTIONS)?.atMs;
    if (first !== undefined && nowMs - first < STORM_MS) {
      this.fail(
        `${STORM_CONNECTIONS} connections within ${((nowMs - first) / 1000).toFixed(1)} s, ` +
          `and nothing was confirmed by any of them`,
      );
    }
  }

  // --- the server's program ---

  taken(number: number, takenBytes: number): void {
    const connection = this.#byNumber.get(number);
    if (connection === undefined) return;
    const { nowMs } = this.#scheduler;
    if (connection.releasedHostMs === Infinity) connection.takenBytes = takenBytes;
    const { end } = connection.wire;
    const stalledMs = nowMs - connection.takenAtMs;
    const { sendWindowBytes = 0, sendMssBytes } = end.sample();
    const surelyMs = this.#options.limits.holdMs + SLACK_MS + 4 * this.#options.timerLateMs;
    if (stalledMs > 2 * surelyMs && sendWindowBytes < sendMssBytes) {
      connection.resumedReadingAtMs = nowMs;
    }
    connection.takenAtMs = nowMs;
  }

  answered(number: number, what: "login" | "heartbeat"): void {
    const connection = this.#byNumber.get(number);
    if (connection === undefined) return;
    if (what === "login") connection.loggedIn = true;
    else connection.askedAtMs = undefined;
  }

  answeredPacket(number: number, tag: number, accepted: boolean): void {
    const connection = this.#byNumber.get(number);
    const packet = this.#packets.get(tag);
    if (connection === undefined || packet === undefined) return;
    connection.answered = true;
    const sent = connection.packets.find((sent) => sent.packet === packet);
    connection.answeredEarly ||= (sent?.end ?? Infinity) > connection.wire.end.sendUna;
    packet.answers.push({ connection, accepted });
    this.#options.trace(() => `server: ${accepted ? "accepts" : "refuses"} packet ${packet.id}`);
  }

  read(
    number: number,
    bytes: Uint8Array,
    on: ProgramEvents,
  ): number | undefined {
    let app = this.#appReaders.get(number);
    if (app === undefined) {
      app = { reader: new StreamReader(this.#sizeOf, true), packets: 0 };
      this.#appReaders.set(number, app);
    }
    const state = app;
    let diesAt: number | undefined;
    const wrong = state.reader.feed(bytes, (tag, end) => {
      if (this.#options.poison.has(tag)) diesAt ??= end - (this.#sizeOf(tag) ?? 0);
      if (diesAt === undefined && this.#packets.has(tag)) on.begun(tag);
    }, (tag) => {
      const packet = this.#packets.get(tag);
      if (packet === undefined) return on.session(tag);
      if (diesAt !== undefined) return;
      // By place and not by id: a dead letter that was put back has another by now.
      const expected = this.#byNumber.get(number)?.packets[state.packets++]?.packet;
      if (expected !== packet) {
        this.fail(`server: packet ${packet.id} came where ${expected?.id} was sent`);
      }
      if (packet.delivered++ === 0) this.#deliveries++;
      else this.totals.duplicates++;
      on.packet(tag);
    });
    if (wrong !== undefined) this.fail(`server: ${wrong} on connection ${number}`);
    return diesAt;
  }

  /** Whether nothing but dead letters lies between two packets. */
  #follows(packet: Packet, lastId: number): boolean {
    for (let id = lastId + 1; id < packet.id; id++) {
      if (!this.#buriedIds.has(id)) return false;
    }
    return packet.id > lastId;
  }

  lostUnread(number: number, fromOffset: number, toOffset: number, taken: number): void {
    // Where reading confirms, only what dies in the program's hands is excused.
    const through = this.#options.limits.reads ? taken : toOffset;
    this.#options.trace(() =>
      `server: ${toOffset - fromOffset} received bytes of connection ${number} die unread`
    );
    for (const { packet, end } of this.#byNumber.get(number)?.packets ?? []) {
      if (end > fromOffset && end <= through && packet.delivered === 0) packet.lostUnread = true;
    }
  }

  // --- invariants ---

  /** Notes the first violation. */
  fail(words: string): void {
    if (this.violation !== undefined) return;
    this.violation = words;
    this.#options.trace(() => `VIOLATION: ${words}`);
  }

  /** After each step of the process. */
  afterStep(): void {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return;
    const { stats } = supervisor;
    const { inFlightBytes, inFlightPackets, heldPackets } = stats;
    this.#count(stats);
    if (heldPackets < 0 || inFlightPackets < 0 || inFlightPackets + heldPackets > this.#byId.size) {
      this.fail(`${inFlightPackets} packets are in flight and ${heldPackets} held`);
    }
    const { maxInFlightBytes } = this.#options.limits;
    if (inFlightBytes > maxInFlightBytes && inFlightPackets > 2) {
      this.fail(
        `${inFlightPackets} packets of ${inFlightBytes} bytes are in flight, ` +
          `the bound is ${maxInFlightBytes}`,
      );
    }
    const { maxUnanswered = Infinity } = this.#options.limits.answers ?? {};
    if (inFlightPackets + heldPackets > maxUnanswered) {
      this.fail(
        `${inFlightPackets + heldPackets} packets wait for an answer, not ${maxUnanswered}`,
      );
    }
    const timers = this.#process?.timers ?? 0;
    if (timers > MAX_TIMERS) this.fail(`${timers} timers are set`);
  }

  /** Counters only grow, also when a connection ends. */
  #count({ confirmedPackets, drainedPackets, ackedBytes }: Counted): void {
    const before = this.#counted;
    this.#counted = { confirmedPackets, drainedPackets, ackedBytes };
    for (const name of Object.keys(before) as (keyof Counted)[]) {
      if (this.#counted[name] >= before[name]) continue;
      this.fail(`the sender counts ${this.#counted[name]} ${name} after ${before[name]}`);
    }
    if (confirmedPackets < this.#removedInLife) this.#miscounted();
    if (confirmedPackets > drainedPackets) {
      this.fail(`${confirmedPackets} packets are confirmed, and ${drainedPackets} drained`);
    }
  }

  /** Everything that was confirmed is removed, or was found damaged as it was to be. */
  counted(): void {
    if (this.#changedIds.size > 0) return;
    if (this.#counted.confirmedPackets !== this.#removedInLife) this.#miscounted();
  }

  #miscounted(): void {
    this.fail(
      `the sender counts ${this.#counted.confirmedPackets} packets confirmed, and ` +
        `${this.#removedInLife} were removed`,
    );
  }

  /** Whether nothing more can be asked for. */
  get everythingArrived(): boolean {
    for (const packet of this.#byId.values()) {
      if (isMissing(packet)) return false;
    }
    return true;
  }

  /** The packets that are neither with the server nor on disk nor excused. */
  missing(): string {
    const missing = [...this.#byId.values()].filter(isMissing);
    return `${missing.length} packets, first ${missing[0]?.id}` +
      `${missing[0]?.onDisk ? " (on disk)" : ""}`;
  }

  /** `drained()` resolved, which was called when `lastId` was the last one on disk. */
  drained(lastId: number): void {
    for (const id of this.#disk?.ids ?? []) {
      if (id > lastId) break;
      const packet = this.#byId.get(id);
      if (packet === undefined || this.#mayBeConfirmed(packet)) continue;
      const alive = this.#options.limits.answers === undefined && !this.#options.limits.reads &&
        packet.acks.some(({ connection }) => connection.releasedHostMs === Infinity);
      if (!alive) this.fail(`drained() resolved, but packet ${id} has not drained`);
    }
  }

  /** At the end: counts what a server took with it. */
  finish(): void {
    for (const packet of this.#byId.values()) {
      if (packet.delivered === 0 && packet.lostUnread) this.totals.lostUnread++;
    }
    if (this.#disk?.mirrorIsTrue() === false) this.fail("the mirror of the disk is wrong");
  }

  readonly #sizeOf = (tag: number): number | undefined =>
    this.#packets.get(tag)?.size ?? sessionBytesOf(tag);

  /** Packets may follow from now on. */
  #opened(connection: Connection): void {
    if (!connection.opening) return;
    connection.opening = false;
    connection.writtenAtMs = this.#scheduler.nowMs;
  }

  /** A message of the session goes out. */
  #sessionGoes(connection: Connection, tag: number, end: number): void {
    const { session } = this.#options.limits;
    const { nowMs } = this.#scheduler;
    const start = end - (sessionBytesOf(tag) ?? 0);
    const { ackedThrough, quietMs } = connection.began;
    if (tag === SESSION_TAGS.login) {
      if (start !== 0) this.fail("a login goes out behind something else");
      connection.loginEnd = end;
      return;
    }
    if (connection.opening) return this.fail("a heartbeat or a goodbye goes out before the login");
    if (ackedThrough < start) {
      this.fail(`a message of the session goes out with ${start - ackedThrough} bytes under way`);
    }
    if (tag === SESSION_TAGS.goodbye) {
      connection.saidGoodbye = true;
      if (!this.closing) this.fail("a goodbye, and nobody has asked the sender to end");
      const open = connection.packets.find(({ packet, id }) =>
        packet.id === id && packet.onDisk && !this.#mayBeConfirmed(packet)
      );
      if (open !== undefined) this.fail(`a goodbye, and packet ${open.id} is not confirmed`);
      return;
    }
    const idleMs = session?.heartbeat?.idleMs ?? Infinity;
    if (quietMs < idleMs - 1 - 2 * this.#options.timerLateMs && this.#clockJumps === 0) {
      this.fail(`a heartbeat after ${quietMs.toFixed(0)} ms of quiet, due after ${idleMs} ms`);
    }
    connection.beatAtMs = nowMs;
    if (connection.askedAtMs !== undefined) this.fail("a heartbeat before the last was answered");
    if (session?.heartbeat?.expect !== undefined) connection.askedAtMs = nowMs;
  }

  finishing(wire: SimWire): void {
    const connection = this.#connections.get(wire);
    const goodbye = (this.#options.limits.session?.close.length ?? 0) > 0;
    if (!goodbye || connection === undefined || connection.saidGoodbye) return;
    // It may be with the server by now, and nobody has heard of that.
    if (connection.packets.some(({ packet, id }) => packet.id === id && packet.onDisk)) return;
    if (wire.end.state === TcpState.ESTABLISHED) this.fail("our FIN goes out without the goodbye");
  }

  /** A quiet connection says so, and one that gets no answer ends. */
  #checkHeartbeat(connection: Connection, nowMs: number): void {
    const heartbeat = this.#options.limits.session?.heartbeat;
    const { end } = connection.wire;
    if (heartbeat === undefined || connection.opening || connection.diedAtMs !== undefined) return;
    const slackMs = SLACK_MS + 4 * this.#options.timerLateMs;
    const sinceMs = Math.max(connection.askedAtMs ?? Infinity, this.#resumedAtMs);
    if (nowMs - sinceMs > heartbeat.answerTimeoutMs + slackMs) {
      this.fail(`a heartbeat was not answered, and nobody noticed`);
    }
    const quiet = connection.askedAtMs === undefined && connection.writes.length === 0 &&
      !end.finReceived && !end.hadHidden && !end.writeShut && !this.closing &&
      // Whoever waits for an answer does not ask in between.
      (this.#options.limits.answers === undefined || connection.packets.length === 0);
    // An answer that is lost on its way is waited for.
    const waitsMs = heartbeat.expect === undefined ? 0 : heartbeat.answerTimeoutMs;
    const quietMs = nowMs - Math.max(
      connection.writtenAtMs,
      connection.emptySinceMs,
      this.#resumedAtMs,
    );
    if (quiet && quietMs > heartbeat.idleMs + waitsMs + slackMs) {
      this.fail(`${quietMs.toFixed(0)} ms of quiet without a heartbeat`);
    }
  }

  #packetGoes(connection: Connection, packet: Packet, end: number): void {
    // A row that a refused packet is taken out of may show that it is damaged: what was read
    // of it before is on its way, and as it was stored.
    const setAside = this.#options.limits.answers !== undefined && packet.dead &&
      this.#changedIds.has(packet.id);
    if (!packet.onDisk && !setAside) {
      return this.fail(`packet ${packet.id} goes out although it is not on disk`);
    }
    if (
      !this.#clocksJumped && packet.producedAtMs < connection.openedAtMs &&
      packet.expiresAtMs <= connection.openedQueueMs
    ) {
      return this.fail(`packet ${packet.id} goes out on a connection made after it expired`);
    }
    // On a connection with nothing to acknowledge, what goes out was given to it just now.
    const { nowMs } = this.#scheduler;
    const sinceMs = Math.max(connection.emptySinceMs, this.#resumedAtMs);
    const expiredMs = this.#clocksJumped ? 0 : this.#options.queueMs() - packet.expiresAtMs;
    if (connection.writes.length === 0 && nowMs - sinceMs > SLACK_MS && expiredMs > SLACK_MS) {
      return this.fail(`packet ${packet.id} goes out ${expiredMs.toFixed(0)} ms after it expired`);
    }
    const { session } = this.#options.limits;
    const start = end - packet.size;
    const { ackedThrough } = connection.began;
    if (session?.open !== undefined) {
      const acked = connection.loginEnd !== undefined && ackedThrough >= connection.loginEnd;
      if (!acked) return this.fail(`packet ${packet.id} goes out before the login is acknowledged`);
      const [step] = typeof session.open === "function" ? [] : session.open;
      if (step?.expect !== undefined && !connection.loggedIn) {
        return this.fail(`packet ${packet.id} goes out before the server has accepted the login`);
      }
    }
    if (session?.separate && ackedThrough < start) {
      return this.fail(`packet ${packet.id} goes out with ${start - ackedThrough} bytes under way`);
    }
    if (this.#options.limits.answers !== undefined && connection.askedAtMs !== undefined) {
      return this.fail(`packet ${packet.id} goes out while a heartbeat waits for its answer`);
    }
    if (connection.lastId === -1) this.#firstPacket(connection, packet);
    else if (!this.#follows(packet, connection.lastId)) {
      this.fail(`packet ${packet.id} follows ${connection.lastId} on one connection`);
    }
    if (packet.written) this.#mustNeedRepeating(connection, packet);
    packet.written = true;
    packet.sentIn.push(connection);
    connection.lastId = packet.id;
    connection.packets.push({ packet, id: packet.id, end });
    // With a bound on attempts the search for the guilty one begins anew after each conviction.
    const fruitless = this.#fruitless.filter(({ carried }) => carried).length;
    const alone = fruitless >= FRUITLESS_ALONE && this.#options.limits.maxAttempts === Infinity;
    const confirmed = () => connection.packets.some(({ packet }) => this.#mayBeConfirmed(packet));
    if (alone && connection.packets.length > 1 && !connection.fruitful && !confirmed()) {
      this.fail(
        `after ${fruitless} connections without a confirmation, the next one carries more ` +
          `than one packet`,
      );
    }
  }

  /** Everything before the first packet of a connection must be confirmed. */
  #firstPacket(connection: Connection, first: Packet): void {
    for (const id of this.#disk?.ids ?? []) {
      if (id >= first.id) break;
      const packet = this.#byId.get(id);
      if (packet !== undefined && !this.#mayBeConfirmed(packet)) {
        return this.fail(
          `connection ${connection.wire.end.connection} begins with packet ${first.id}, ` +
            `but ${id} was never confirmed`,
        );
      }
    }
  }

  /** What a living process has surely confirmed is not sent again. */
  #mustNeedRepeating(connection: Connection, packet: Packet): void {
    const { holdMs } = this.#options.limits;
    const surelyMs = holdMs * 1.05 + SLACK_MS + 4 * this.#options.timerLateMs;
    for (const ack of packet.acks) {
      const before = ack.connection;
      if (before === connection) {
        return this.fail(`packet ${packet.id} goes out twice on one connection`);
      }
      if (before.wire.process !== connection.wire.process) continue;
      // Nobody knows when an answer is heard, and one out of turn waits for the others; nor
      // when it is heard that the program has read.
      if (this.#options.limits.answers !== undefined || this.#options.limits.reads) continue;
      if (this.#stops.some(({ untilMs }) => untilMs > ack.atMs)) continue;
      // Behind a window that was shut the hold stood still; what a kernel hides nobody sees.
      if (before.shutAtMs >= ack.atMs || before.wire.end.hadHidden) continue;
      const heldMs = before.vouchedUntilMs - ack.atMs;
      if (heldMs > surelyMs) {
        return this.fail(
          `packet ${packet.id} is sent again although it was held for ${heldMs.toFixed(0)} ms`,
        );
      }
    }
  }

  /**
   * Acknowledged, and then a peer that was alive and reading for the whole hold:
   * by what the kernel received, whatever the code under test has made of it.
   */
  #mayBeConfirmed(packet: Packet): boolean {
    const { holdMs } = this.#options.limits;
    const needMs = Math.max(0, holdMs - HOLD_GRAIN_MS) - 0.001;
    if (this.#options.limits.answers !== undefined) return this.#isAccepted(packet);
    if (this.#options.limits.reads) return this.#isRead(packet);
    return packet.acks.some(({ connection, hostMs, atMs }) => {
      if (connection.wire.process !== this.#process) return false;
      const signMs = this.#lastSignMs(connection);
      // By the process's clock, which may have jumped meanwhile.
      const signHostMs = this.#options.hostNowMs() - (this.#scheduler.nowMs - signMs);
      // Both times are rounded to the kernel's jiffies.
      if (signHostMs + 2 * JIFFY_MS - hostMs < needMs) return false;
      if (packet.delivered > 0 || needMs <= 0) return true;
      return !this.#surelyNotReading(connection, atMs);
    });
  }

  /** By the server's program, on a connection of this process that had acknowledged all of it. */
  #isAccepted(packet: Packet): boolean {
    return packet.answers.some(({ connection, accepted }) =>
      accepted && connection.wire.process === this.#process &&
      packet.acks.some((ack) => ack.connection === connection)
    );
  }

  /** By the server's program, on a connection of this process, and acknowledged by its kernel. */
  #isRead(packet: Packet): boolean {
    return packet.acks.some(({ connection, end }) =>
      connection.wire.process === this.#process && end <= connection.takenBytes
    );
  }

  /** Whether packets of it were not read, or not answered, where that confirms. */
  #hasUnconfirmed({ wire, packets, takenBytes }: Connection): boolean {
    const { answers, reads } = this.#options.limits;
    return packets.some(({ packet, id, end }) =>
      answers === undefined
        ? reads && end > takenBytes
        : packet.id === id && !packet.answers.some(({ connection }) => connection.wire === wire)
    );
  }

  /** When the peer was last heard, as long as that says something about its program. */
  #lastSignMs(connection: Connection): number {
    const { end } = connection.wire;
    if (connection.releasedHostMs !== Infinity) return connection.signAtReleaseMs;
    return this.#options.limits.onPeerFin === "reconnect"
      ? end.heardBeforeFinAtMs
      : end.lastReceivedAtMs;
  }

  /** Since a packet was acknowledged the program has taken nothing, or only since just now. */
  #surelyNotReading(connection: Connection, ackedAtMs: number): boolean {
    const { nowMs } = this.#scheduler;
    const { holdMs } = this.#options.limits;
    if (this.#stops.some(({ untilMs }) => untilMs > ackedAtMs)) return false;
    // While the window was open nobody could have known.
    const shut = connection.shutSinceMs < ackedAtMs + holdMs - HOLD_GRAIN_MS - SLACK_MS;
    if (shut && connection.takenAtMs < ackedAtMs) return true;
    const sinceMs = connection.resumedReadingAtMs;
    return ackedAtMs < sinceMs && nowMs < sinceMs + holdMs - HOLD_GRAIN_MS - SLACK_MS;
  }

  #mustBeOver(other: Connection): void {
    if (other.diedAtMs === undefined) {
      this.fail(`two connections at once: ${other.wire.end.connection} still lives`);
    }
  }

  #silenceBegan(connection: Connection): number {
    const oldest = connection.writes[0];
    if (oldest === undefined) return this.#scheduler.nowMs;
    return Math.max(connection.wire.end.lastReceivedAtMs, oldest.atMs);
  }

  /** What of the time since `sinceMs` the process has slept, beyond what it may count. */
  #asleepMs(sinceMs: number): number {
    let asleepMs = 0;
    for (const { fromMs, untilMs } of this.#stops) {
      const sleptMs = untilMs - Math.max(fromMs, sinceMs);
      asleepMs += Math.max(0, sleptMs - MAX_COUNTED_GAP_MS);
    }
    return asleepMs;
  }

  #checkSilence(connection: Connection): void {
    const { end } = connection.wire;
    if (this.#stopped || end.state === TcpState.CLOSE || connection.writes.length === 0) return;
    // A session has a time of its own.
    if (connection.opening) return;
    const { stallTimeoutMs } = this.#options.limits;
    const beganMs = Math.max(this.#silenceBegan(connection), this.#resumedAtMs);
    const { nowMs } = this.#scheduler;
    const silenceMs = nowMs - beganMs;
    if (end.windowClosed) connection.windowClosedAtMs = nowMs;
    // What a probe has just pushed out of a closed window ends that, and what counts there.
    const limitMs = nowMs - connection.windowClosedAtMs <= TICK_MS + SLACK_MS
      ? this.#options.rtoMaxMs > 1000 ? Infinity : Math.max(stallTimeoutMs, 4500) + 1300
      : Math.max(stallTimeoutMs, 2 * end.srttMs) + 250;
    if (silenceMs > limitMs) {
      this.fail(
        `connection ${end.connection} was silent for ${silenceMs.toFixed(0)} ms ` +
          `and not given up, the limit is ${limitMs.toFixed(0)} ms`,
      );
    }
  }

  #tick(): void {
    if (this.#stopped || this.#process?.alive !== true) return;
    const nowMs = this.#scheduler.nowMs;
    for (const connection of this.#connections.values()) {
      if (connection.releasedHostMs !== Infinity) continue;
      this.#checkSilence(connection);
      const { diedAtMs, wire: { end } } = connection;
      const hidden = end.hidesAcks && !connection.opening && end.writeSeq > 0 &&
        end.unackedBytes === 0 &&
        !end.writeShut && diedAtMs === undefined;
      const hiddenMs = nowMs - Math.max(connection.emptySinceMs, this.#resumedAtMs);
      if (hidden && hiddenMs > CONTRADICTION_NOTICE_MS + 4 * this.#options.timerLateMs) {
        this.fail(
          `connection ${end.connection}: counters contradict each other, and nobody noticed`,
        );
      }
      this.#checkHeartbeat(connection, nowMs);
      this.#checkAnswers(connection, nowMs);
      this.#checkReading(connection, nowMs);
      this.#checkReplaced(connection, nowMs);
      if (diedAtMs === undefined) continue;
      if (nowMs - Math.max(diedAtMs, this.#resumedAtMs) > DEATH_NOTICE_MS + SLACK_MS) {
        this.fail(`connection ${connection.wire.end.connection} is dead and nobody noticed`);
      }
    }
    this.#checkWaits(nowMs);
  }

  /** A server that has acknowledged packets and answers none is given up in time. */
  #checkAnswers(connection: Connection, nowMs: number): void {
    const { answers } = this.#options.limits;
    if (answers === undefined || connection.answered) return;
    const waitedMs = nowMs - Math.max(connection.drainedAtMs, this.#resumedAtMs);
    const slackMs = SLACK_MS + TICK_MS + 4 * this.#options.timerLateMs;
    if (waitedMs > answers.answerTimeoutMs + slackMs && !connection.wire.end.hadHidden) {
      this.fail(`no packet was answered for ${waitedMs.toFixed(0)} ms, and nobody noticed`);
    }
  }

  /** A program that has stopped to read is given up in time, where that can be known. */
  #checkReading(connection: Connection, nowMs: number): void {
    const { reads, peerStallTimeoutMs } = this.#options.limits;
    if (!reads || connection.diedAtMs !== undefined || connection.wire.end.hadHidden) return;
    const unread = connection.packets.slice(0, connection.drained)
      .find(({ end }) => end > connection.takenBytes);
    const ack = unread?.packet.acks.findLast((ack) => ack.connection === connection);
    if (ack === undefined) return;
    const waitedMs = nowMs - Math.max(ack.atMs, connection.takenAtMs, this.#resumedAtMs);
    if (waitedMs > peerStallTimeoutMs + READ_NOTICE_MS + 4 * this.#options.timerLateMs) {
      this.fail(`the program has not read for ${waitedMs.toFixed(0)} ms, and nobody noticed`);
    }
  }

  #checkReplaced({ replacedAtMs, wire: { end } }: Connection, nowMs: number): void {
    const replacedMs = nowMs - Math.max(replacedAtMs, this.#resumedAtMs);
    // Where a FIN confirms what is held, that is waited for.
    const { onPeerFin, holdMs } = this.#options.limits;
    const heldMs = end.finReceived && onPeerFin === "confirm" ? 1.1 * holdMs + 1000 : 0;
    // Behind the peer's FIN nobody reads, and it is looked at once a second.
    const lookMs = end.finReceived && onPeerFin === "keep-sending" ? 1000 : 0;
    if (replacedMs > REPLACED_NOTICE_MS + heldMs + lookMs + 4 * this.#options.timerLateMs) {
      this.fail(`connection ${end.connection} stays although the server has connected anew`);
    }
  }

  #checkWaits(nowMs: number): void {
    if (this.#status === undefined) return;
    const { state, sinceMs, pause } = this.#status;
    // Whoever listens waits for as long as it takes, and then for what is to be said first.
    const openedAtMs = [...this.#connections.values()]
      .filter(({ opening, releasedAtMs }) => opening && releasedAtMs === Infinity)
      .map(({ openedAtMs }) => openedAtMs);
    if (state === "connecting" && this.#options.listens && openedAtMs.length === 0) return;
    const fromMs = this.#options.listens && state === "connecting"
      ? Math.min(...openedAtMs)
      : sinceMs;
    const { lookUpTimeoutMs, slowConnectTimeoutMs, connectTimeoutMs, backoffCapMs, session } =
      this.#options.limits;
    const limitMs = state === "connecting"
      ? lookUpTimeoutMs + Math.max(slowConnectTimeoutMs, connectTimeoutMs) +
        (session?.timeoutMs ?? 0)
      : state === "backing-off"
      ? pause === undefined ? backoffCapMs : this.#pauseCeilingMs(pause)
      : Infinity;
    const waitedMs = nowMs - Math.max(fromMs, this.#resumedAtMs);
    if (waitedMs > limitMs + SLACK_MS) {
      this.fail(`${state} for ${waitedMs.toFixed(0)} ms, the bound is ${limitMs} ms`);
    }
  }
}

/** Neither with the server nor excused. */
function isMissing({ delivered, dead, onDisk, lostUnread }: Packet): boolean {
  return delivered === 0 && !dead && (onDisk || !lostUnread);
}
