/**
 * The legacy server: a machine, its kernel, and a program that reads packets
 * and cannot acknowledge them. It does everything that such programs do.
 *
 * @module
 */

import { TcpState } from "../src/base/ports.ts";
import type { ServerSide, SynAnswer } from "./network.ts";
import { SESSION_TAGS } from "./packet.ts";
import type { SeededRandom } from "./random.ts";
import type { ServerAnswers, ServerSession } from "./scenario.ts";
import { cancel, type Scheduler, type SimEvent } from "./scheduler.ts";
import type { TcpEnd } from "./tcp.ts";

/** Who writes down what the program has read. */
export interface ServerWatcher {
  /**
   * @param on Told the tag of each message of the session, of each packet that begins, and
   *   of each that is whole.
   * @returns At which offset of the connection's bytes the program dies of what
   *   it reads; undefined: it lives.
   */
  read(
    connection: number,
    bytes: Uint8Array,
    on: ProgramEvents,
  ): number | undefined;
  /** The program has sent the last byte of an answer to the session. */
  answered(connection: number, what: "login" | "heartbeat"): void;
  /** The program begins to say its answer to a packet. */
  answeredPacket(connection: number, tag: number, accepted: boolean): void;
  /** The program has taken bytes from its kernel, so many by now. */
  taken(connection: number, takenBytes: number): void;
  /**
   * Bytes that the kernel had received, and nobody will ever work on: `(from, to]`. Those up
   * to `taken` die in the program's hands.
   */
  lostUnread(connection: number, fromOffset: number, toOffset: number, taken: number): void;
}

/** What a program meets in what it works on. */
export interface ProgramEvents {
  readonly session: (tag: number) => void;
  readonly begun: (tag: number) => void;
  readonly packet: (tag: number) => void;
}

/** What it has to say waits at most so long behind what it is saying. */
const SAYS_AHEAD_MS = 1000;
/** How a program connects: returns how to give the attempt up. */
type Connect = (settle: (outcome: { end: TcpEnd } | { code: string }) => void) => () => void;

/** A program that connects gives an attempt up after this. */
const CONNECT_WITHIN_MS = 5000;
/** The program reads at most this much at once. */
const READ_BYTES = 64 * 1024;

interface Served {
  readonly end: TcpEnd;
  /** Taken from the kernel. */
  readBytes: number;
  /** Taken from the kernel and not worked on yet: gone when the program dies. */
  inHand: Uint8Array[];
  workedBytes: number;
  working: SimEvent | undefined;
  accepted: boolean;
  reading: SimEvent | undefined;
  /** What it is about to say, message by message, and when the last of them is said. */
  saidAtMs: number;
  /** What says the parts of it, one after the other. */
  readonly toSay: (() => void)[];
  /** When the next answer may be said that has to keep its turn. */
  turnAtMs: number;
  /** It has left out an answer that has its turn: none behind it may come. */
  mute: boolean;
  /** The packet that is answered and not whole. */
  early: number | undefined;
}

/** The machine with its program. */
export class SimServer implements ServerSide {
  readonly #scheduler: Scheduler;
  readonly #watcher: ServerWatcher;
  readonly #served = new Map<number, Served>();
  /** Power. */
  up = true;
  /** Whether the program runs and listens. */
  listening = true;
  /** How full its kernel lets the queue of connections become that nobody accepts. */
  backlog = 8;
  /** How long the program takes to accept. */
  acceptDelayMs = 0;
  /** Bytes a millisecond. */
  readRate = Infinity;
  /** How long the program has in hand what it has read before it has done its work. */
  workMs = 0;
  /** It accepts, reads, and resets: another protocol, a refused login. */
  resetsAfterReading = false;
  /** It does not want sessions: says so, or closes. */
  refuses: "says-no" | "closes" | undefined;
  /** How much longer it thinks about its answers. */
  lateMs = 0;
  ignoresHeartbeats = false;
  /** It works on packets, and says nothing. */
  answersNoPacket = false;
  /** It answers a packet as soon as it begins. */
  answersEarly = false;
  /** It names packets that there are not, and says what is no answer. */
  answersWrongly = false;
  /** It refuses a part of the packets. */
  refusesPackets = false;
  readonly #session: ServerSession | undefined;
  readonly #answers: { readonly how: ServerAnswers; readonly random: SeededRandom } | undefined;
  #connect: Connect | undefined;
  /** Gives up the attempt that is under way. */
  #forgetAttempt: (() => void) | undefined;
  /** SIGSTOP, or a program that is stuck. */
  #stalled = false;

  /** A server in good health. */
  constructor(
    scheduler: Scheduler,
    watcher: ServerWatcher,
    session?: ServerSession,
    answers?: { readonly how: ServerAnswers; readonly random: SeededRandom },
  ) {
    this.#answers = answers;
    this.#scheduler = scheduler;
    this.#watcher = watcher;
    this.#session = session;
  }

  /** Whether the program reads nothing at the moment. */
  get stalled(): boolean {
    return this.#stalled;
  }

  set stalled(stalled: boolean) {
    this.#stalled = stalled;
    if (!stalled) { for (const served of this.#served.values()) this.#read(served); }
  }

  /** What its kernel says to a new connection. */
  answerSyn(): SynAnswer {
    if (!this.listening) return "refuse";
    let waiting = 0;
    for (const { accepted } of this.#served.values()) if (!accepted) waiting++;
    // A full queue ignores; the other side tries again.
    return waiting > this.backlog ? "ignore" : "accept";
  }

  /** A connection for the program. */
  established(end: TcpEnd): void {
    const served: Served = {
      end,
      readBytes: 0,
      inHand: [],
      workedBytes: 0,
      working: undefined,
      accepted: false,
      reading: undefined,
      saidAtMs: 0,
      toSay: [],
      turnAtMs: 0,
      mute: false,
      early: undefined,
    };
    this.#served.set(end.connection, served);
    end.events = {
      readable: () => this.#read(served),
      writable() {},
      acked() {},
      dead() {},
    };
    this.#scheduler.after(this.acceptDelayMs, () => {
      served.accepted = true;
      this.#read(served);
    });
  }

  /** The program connects to the sender from now on, whenever it has no connection. */
  connectThrough(connect: Connect, pauseMs: number): void {
    this.#connect = connect;
    const look = (): void => {
      if (this.#served.size === 0) this.connectAnew();
      this.#scheduler.after(pauseMs, look);
    };
    look();
  }

  /** It connects, also beside a connection that it has; one attempt at a time. */
  connectAnew(): void {
    const runs = this.up && this.listening && !this.#stalled;
    if (this.#connect === undefined || !runs || this.#forgetAttempt !== undefined) return;
    const forget = this.#connect((outcome) => {
      cancel(late);
      this.#forgetAttempt = undefined;
      if ("end" in outcome) this.established(outcome.end);
    });
    const late = this.#scheduler.after(CONNECT_WITHIN_MS, () => this.#giveUpConnecting());
    this.#forgetAttempt = () => {
      cancel(late);
      forget();
    };
  }

  #giveUpConnecting(): void {
    this.#forgetAttempt?.();
    this.#forgetAttempt = undefined;
  }

  /** The program ends every connection; its kernel resets those with unread data. */
  closeConnections(): void {
    for (const served of [...this.#served.values()]) {
      this.#workAll(served);
      if (this.#served.has(served.end.connection)) this.#drop(served, () => served.end.close());
    }
  }

  /**
   * As Python's socketserver and many others end: shutdown(), and close() right
   * behind it, with whatever is unread.
   */
  shutDownAndClose(): void {
    for (const served of [...this.#served.values()]) {
      this.#workAll(served);
      if (!this.#served.has(served.end.connection)) continue;
      served.end.shutdownWrite();
      this.#drop(served, () => served.end.close());
    }
  }

  /** The program says that it will send nothing more, and goes on reading. */
  halfCloseConnections(): void {
    for (const { end } of this.#served.values()) end.shutdownWrite();
  }

  /** SIGKILL. */
  crash(): void {
    this.listening = false;
    this.#giveUpConnecting();
    for (const served of [...this.#served.values()]) this.#drop(served, () => served.end.close());
    this.stalled = false;
  }

  /** The program starts again. */
  restart(): void {
    this.listening = true;
  }

  /** The plug is pulled: not a packet more. */
  powerOff(): void {
    this.up = false;
    this.listening = false;
    this.#giveUpConnecting();
    for (const served of [...this.#served.values()]) this.#drop(served, () => served.end.vanish());
    this.stalled = false;
  }

  /** The machine is back, and knows nothing. */
  powerOn(): void {
    this.up = true;
    this.listening = true;
  }

  /** The program says something to everybody. */
  chatter(bytes: Uint8Array): void {
    for (const served of this.#served.values()) {
      const { end } = served;
      if (this.#answers !== undefined) {
        // Whoever answers keeps what it says apart, and does not pile it up for minutes.
        if (served.saidAtMs > this.#scheduler.nowMs + SAYS_AHEAD_MS) continue;
        this.#say(served, new TextEncoder().encode(`${"x".repeat(bytes.length)}\n`), () => {});
      } else if (!end.writeShut && end.sendRoomBytes >= bytes.length) end.write(bytes);
    }
  }

  #drop(served: Served, end: () => void): void {
    const { connection, receivedDataBytes } = served.end;
    cancel(served.reading);
    cancel(served.working);
    this.#served.delete(connection);
    served.end.events = { readable() {}, writable() {}, acked() {}, dead() {} };
    if (receivedDataBytes > served.workedBytes) {
      const { workedBytes, readBytes } = served;
      this.#watcher.lostUnread(connection, workedBytes, receivedDataBytes, readBytes);
    }
    end();
  }

  /** The program does its work on what it has in hand. */
  #workAll(served: Served): void {
    const { end } = served;
    for (const bytes of served.inHand.splice(0)) {
      const diesAt = this.#watcher.read(
        end.connection,
        bytes,
        {
          session: (tag) => this.#onSession(served, tag),
          begun: (tag) => {
            if (!this.answersEarly) return;
            served.early = tag;
            this.#answer(served, tag, 0);
          },
          packet: (tag) => {
            if (served.early !== tag) this.#answer(served, tag, this.#answers?.how.answerMs ?? 0);
            served.early = undefined;
          },
        },
      );
      served.workedBytes = diesAt ?? served.workedBytes + bytes.length;
      if (diesAt !== undefined) return this.#drop(served, () => end.abort());
    }
  }

  /** Decides what to say to a packet, and when. */
  #answer(served: Served, tag: number, thinkMs: number): void {
    if (this.#answers === undefined) return;
    const { how, random } = this.#answers;
    if (this.answersNoPacket) served.mute = !how.keyed || served.mute;
    if (this.answersNoPacket || served.mute) return;
    const nowMs = this.#scheduler.nowMs;
    const accepted = !how.refusedTags.has(tag) && !(this.refusesPackets && tag % 3 === 0);
    const words = (key: number) => `${accepted ? "OK" : "NO"}${how.keyed ? ` ${key}` : ""}\n`;
    const afterMs = thinkMs + this.lateMs +
      (how.reorderMs > 0 ? random.between(0, how.reorderMs) : 0);
    // Without a key an answer is about the next packet.
    const atMs = how.keyed ? nowMs + afterMs : Math.max(nowMs + afterMs, served.turnAtMs);
    served.turnAtMs = atMs;
    const speak = (text: string, begins: () => void): void => {
      this.#scheduler.after(Math.max(0, atMs - this.#scheduler.nowMs), () => {
        this.#say(served, new TextEncoder().encode(text), begins);
      });
    };
    if (this.answersWrongly) speak(how.keyed ? words(tag + 1_000_000) : "HELLO\n", () => {});
    speak(words(tag), () => this.#watcher.answeredPacket(served.end.connection, tag, accepted));
    if (random.chance(how.twice)) speak(words(tag), () => {});
  }

  /** Says a message behind those that it is saying already. */
  #say(served: Served, bytes: Uint8Array, begins: () => void): void {
    const parts: Uint8Array[] = this.#answers?.how.inParts
      ? Array.from(bytes.subarray(0, 40), (byte) => Uint8Array.of(byte))
      : [];
    const rest = bytes.subarray(parts.length);
    if (rest.length > 0) parts.push(rest);
    for (const [i, part] of parts.entries()) {
      const atMs = Math.max(this.#scheduler.nowMs, served.saidAtMs + (i === 0 ? 0 : 3));
      served.saidAtMs = atMs;
      const speak = () => {
        const { end } = served;
        if (!this.#served.has(end.connection) || end.writeShut) return;
        // Half an answer would spoil the next one.
        if (end.sendRoomBytes < part.length) return this.#drop(served, () => end.abort());
        if (i === 0) begins();
        end.write(part);
      };
      served.toSay.push(speak);
      // The next one, whichever that is: of two moments that are the same one may be rounded to
      // be earlier.
      this.#scheduler.after(atMs - this.#scheduler.nowMs, () => served.toSay.shift()?.());
    }
  }

  #onSession(served: Served, tag: number): void {
    const session = this.#session;
    if (session === undefined) return;
    const { end } = served;
    const login = tag === SESSION_TAGS.login;
    if (!login && tag !== SESSION_TAGS.heartbeat) return;
    const refuses = login ? this.refuses : undefined;
    const afterMs = session.answerMs + this.lateMs;
    if (refuses === "closes") {
      this.#scheduler.after(afterMs, () => {
        if (this.#served.has(end.connection)) this.#drop(served, () => end.close());
      });
      return;
    }
    const answers = login ? session.answersLogin : session.answersHeartbeats;
    if (!answers || (!login && this.ignoresHeartbeats)) return;
    // Without keys it looks like an answer to a packet.
    const pong = this.#answers?.how.keyed === false ? "OK PONG\n" : "PONG\n";
    const words = refuses !== undefined ? "-NO, not today\n" : login ? "+OK\n" : pong;
    const bytes = new TextEncoder().encode(words);
    const parts = session.inParts ? [...bytes].map((byte) => Uint8Array.of(byte)) : [bytes];
    parts.forEach((part, i) => {
      this.#scheduler.after(afterMs + i * 3, () => {
        if (!this.#served.has(end.connection) || end.writeShut) return;
        if (end.sendRoomBytes < part.length) return;
        if (this.#answers === undefined) end.write(part);
        else this.#say(served, part, () => {});
        const whole = i === parts.length - 1 && refuses === undefined;
        if (whole) this.#watcher.answered(end.connection, login ? "login" : "heartbeat");
      });
    });
  }

  #read(served: Served): void {
    if (!served.accepted || served.reading !== undefined) return;
    const { end } = served;
    while (!this.#stalled && this.#served.has(end.connection)) {
      const maxBytes = this.readRate === Infinity ? READ_BYTES : Math.max(1, this.readRate * 20);
      const bytes = end.read(Math.min(READ_BYTES, Math.ceil(maxBytes)));
      if (bytes === undefined) {
        if (end.finReceived || end.state === TcpState.CLOSE) {
          this.#workAll(served);
          this.#drop(served, () => end.close());
        }
        return;
      }
      served.readBytes += bytes.length;
      this.#watcher.taken(end.connection, served.readBytes);
      if (this.resetsAfterReading) return this.#drop(served, () => end.abort());
      served.inHand.push(bytes);
      if (this.workMs === 0) this.#workAll(served);
      else {
        served.working ??= this.#scheduler.after(this.workMs, () => {
          served.working = undefined;
          this.#workAll(served);
        });
      }
      if (!this.#served.has(end.connection)) return;
      if (this.readRate === Infinity) continue;
      served.reading = this.#scheduler.after(bytes.length / this.readRate, () => {
        served.reading = undefined;
        this.#read(served);
      });
      return;
    }
  }
}
