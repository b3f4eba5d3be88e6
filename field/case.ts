/**
 * What a case of the field ring is: a server that nobody here has written, and
 * how somebody who uses it sends to it.
 *
 * @module
 */

/** What has to be there. Whatever is missing leaves the case out, with its name as the reason. */
export interface Needs {
  /** Programs that come from anywhere; none of ours to install. */
  readonly programs?: readonly string[];
  /** Debian packages that are installed. */
  readonly debian?: readonly string[];
  /** Debian packages that are only unpacked, because they would remove another one of these. */
  readonly unpacked?: readonly string[];
  /** Packages from npm, with their versions, in the scratch directory. */
  readonly npm?: readonly string[];
}

/** Where one life of a server happens. */
export interface Place {
  readonly port: number;
  /** A directory of this run alone. */
  readonly work: string;
  /** What the server writes down, and what it prints where {@linkcode Start.prints} says so. */
  readonly output: string;
  /** Where packages were put. */
  readonly scratch: string;
}

/** A program, and how it is called. */
export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** What it prints is its output. */
  readonly prints?: true;
  /** Where it listens, unless that is the place's port. */
  readonly listensAt?: number | string;
}

/** How packets get to it: a route file of `examples/protocols/`, or flags of `send`. */
export type Sending =
  | {
    readonly example: string;
    /** What the route file names, written to the working directory. */
    readonly files?: Readonly<Record<string, Uint8Array>>;
    /** Its answers confirm, so that there is no hold. */
    readonly answered?: true;
  }
  | { readonly flags: readonly string[] };

/** A server, as data. */
export interface ServerCase {
  readonly name: string;
  readonly needs: Needs;
  /** A program that prints its version, or a package of npm. */
  readonly version: readonly [program: string, ...args: string[]] | { readonly npm: string };
  /** Called for each of its lives; writes its configuration. */
  start(place: Place): Start;
  readonly sending: Sending;
  /** It listens on a Unix socket, {@linkcode socketOf} the place. */
  readonly unixSocket?: true;
  /** It connects to the sender, which listens at the place's port. */
  readonly connects?: true;
  /** A packet as it comes on standard input, with {@linkcode token} of its number in it. */
  packet(number: number): Uint8Array | string;
  /** What the server has made of them so far; the output file unless given. */
  read?(place: Place): Promise<string>;
  /** What each line of it looks like, the number in its first group. `undefined`: it says more. */
  readonly line?: RegExp | undefined;
  /** Why packets may come in another order, or more often than sent, for reasons of the server. */
  readonly orderUnknown?: string;
  /** The server keeps one of a kind, so that nothing can be seen twice. */
  readonly duplicatesUnknown?: string;
  /** Packets that this server refuses: each has to be a dead letter, with these words. */
  readonly refuses?: { readonly packet: (number: number) => boolean; readonly words: RegExp };
  /** Why this server loses a few packets whatever TCP does: up to a tenth is no failure. */
  readonly losesBecause?: string;
}

/** Where a server listens that does so on a Unix socket. */
export function socketOf({ work }: Pick<Place, "work">): string {
  return `${work}/s.sock`;
}

/** What stands for a packet in what the server writes. */
export function token(number: number): string {
  return `m${String(number).padStart(6, "0")}z`;
}

/** The line of a server that writes the messages and nothing else. */
export const TOKEN_LINE = /^m(\d{6})z$/;

/** How packets are given to the sender. */
export interface Load {
  readonly name: "steady" | "burst";
  readonly packets: number;
  /** `undefined`: all at once. */
  readonly perSecond?: number;
  /** Other than the case's, where the kernel confirms. */
  readonly hold?: string;
}

/** The loads of the ring. */
export const LOADS: readonly Load[] = [
  { name: "steady", packets: 600, perSecond: 100 },
  // A server that reads them all at once has them in its memory until it has worked through
  // them, and its kernel has acknowledged them: a hold for a busy machine.
  { name: "burst", packets: 2000, hold: "10s" },
];

/** What came of a case. */
export interface Result {
  readonly case: string;
  readonly load: string;
  readonly version: string;
  readonly sent: number;
  readonly lost: number;
  /** `undefined`: the server's output cannot show it. */
  readonly duplicated: number | undefined;
  /** Packets that were in flight or held when connections ended. */
  readonly duplicatesBound: number;
  readonly outOfOrder: number | undefined;
  readonly deadLetters: number;
  readonly connections: number;
  readonly seconds: number;
  /** What a reader has to know. */
  readonly notes: readonly string[];
  /** What went against the expectations. */
  readonly failures: readonly string[];
}

/** A case that did not run. */
export interface LeftOut {
  readonly case: string;
  readonly reason: string;
}

/** All that came of a run of the ring. */
export interface Report {
  readonly date: string;
  readonly machine: string;
  readonly servers: readonly Result[];
  readonly clients: readonly ClientRow[];
  readonly refusals: readonly RefusalRow[];
  readonly leftOut: readonly LeftOut[];
}

/** What came of a client. */
export interface ClientRow {
  readonly case: string;
  readonly version: string;
  readonly sent: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly notes: readonly string[];
  readonly failures: readonly string[];
}

/** What an operator is told of a refusal. */
export interface RefusalRow {
  readonly case: string;
  readonly words: string;
  readonly failures: readonly string[];
}
