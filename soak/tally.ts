/**
 * What the servers have read, in memory that does not grow with it: packets are numbered by
 * their producers, so that the next number and the holes before it say all.
 *
 * @module
 */

import { packetOf } from "../lab/packets.ts";

/** Numbers that no server has read although later ones were. */
interface Hole {
  first: number;
  last: number;
  /** A server that was further behind than the hold died in between. */
  readonly excused: boolean;
}

interface Progress {
  /** One more than the highest number read. */
  next: number;
  holes: Hole[];
  /** {@linkcode Tally.serverDiedBehind} calls when its newest packet was read. */
  deaths: number;
}

/** Packets that were acknowledged to their producer and not read by any server. */
export interface Missing {
  /** Nothing excuses these. */
  readonly lost: number;
  /** A server that was further behind than the hold died unread: what no kernel can tell. */
  readonly diedUnread: number;
}

/** A packet of a producer, as it goes on the wire. */
export function soakPacket(producer: string, number: number, bytes: number): string {
  return packetOf(`${producer}-`, number, bytes);
}

/** One connection as a server has read it. */
export class ConnectionTally {
  readonly #tally: Tally;
  readonly #last: Map<string, number> = new Map();
  #partial = "";

  /** Made by {@linkcode Tally.connection}. */
  constructor(tally: Tally) {
    this.#tally = tally;
  }

  /** Takes in bytes, in the order read. */
  take(bytes: Uint8Array): void {
    const lines = (this.#partial + LATIN1.decode(bytes)).split("\n");
    this.#partial = lines.pop() ?? "";
    for (const line of lines) this.#takePacket(line + "\n");
  }

  #takePacket(packet: string): void {
    const [, producer = "", digits = ""] = /^(\w+)-(\d+) /.exec(packet) ?? [];
    const number = Number(digits);
    if (packet !== soakPacket(producer, number, this.#tally.packetBytes)) {
      this.#tally.damaged++;
      return;
    }
    const last = this.#last.get(producer);
    this.#last.set(producer, number);
    if (last !== undefined && number !== last + 1) this.#tally.outOfOrder++;
    this.#tally.takeNumber(producer, number);
  }
}

/** One byte a character: damaged bytes must not be mended by decoding them. */
const LATIN1 = new TextDecoder("latin1");

/** Counts what all servers have read over all connections. */
export class Tally {
  /** Whole packets read, duplicates included. */
  read = 0;
  /** Those of them that had been read before. */
  duplicates = 0;
  /** Times that a connection did not go on with the producer's next packet. */
  outOfOrder = 0;
  /** Lines that no producer has written: torn, merged or invented. */
  damaged = 0;
  readonly #producers: Map<string, Progress> = new Map();
  #deaths = 0;

  /** @param packetBytes The size of every packet. */
  constructor(readonly packetBytes: number) {}

  /** A producer begins: its packets count from 0. */
  expect(producer: string): void {
    this.#producers.set(producer, { next: 0, holes: [], deaths: this.#deaths });
  }

  /** A server has accepted a connection. */
  connection(): ConnectionTally {
    return new ConnectionTally(this);
  }

  /**
   * A server was killed that had left bytes unread for longer than the hold. Packets that are
   * missing between what was read before and after are its.
   */
  serverDiedBehind(): void {
    this.#deaths++;
  }

  /** A packet was read. */
  takeNumber(producer: string, number: number): void {
    const progress = this.#producers.get(producer);
    if (progress === undefined) {
      this.damaged++;
      return;
    }
    this.read++;
    if (number < progress.next) {
      if (!fill(progress.holes, number)) this.duplicates++;
      return;
    }
    if (number > progress.next) {
      const excused = progress.deaths < this.#deaths;
      progress.holes.push({ first: progress.next, last: number - 1, excused });
    }
    progress.next = number + 1;
    progress.deaths = this.#deaths;
  }

  /**
   * What has not been read of what was acknowledged.
   *
   * @param acknowledged For each producer how many packets were, counted from number 0.
   */
  missing(acknowledged: ReadonlyMap<string, number>): Missing {
    let lost = 0;
    let diedUnread = 0;
    const count = (packets: number, excused: boolean) => {
      if (excused) diedUnread += Math.max(0, packets);
      else lost += Math.max(0, packets);
    };
    for (const [producer, stored] of acknowledged) {
      const { next = 0, holes = [], deaths = this.#deaths } = this.#producers.get(producer) ?? {};
      // A packet that was stored without its producer being told may be missing.
      for (const { first, last, excused } of holes) {
        count(Math.min(last + 1, stored) - first, excused);
      }
      count(stored - next, deaths < this.#deaths);
    }
    return { lost, diedUnread };
  }

  /** Of {@linkcode missing}, those for which a later one of the same producer was read. */
  skipped(acknowledged: ReadonlyMap<string, number>): Missing {
    const read = new Map<string, number>();
    for (const [producer, stored] of acknowledged) {
      read.set(producer, Math.min(stored, this.#producers.get(producer)?.next ?? 0));
    }
    return this.missing(read);
  }
}

/** Whether the number was in a hole, which is then smaller by it. */
function fill(holes: Hole[], number: number): boolean {
  const at = holes.findIndex(({ first, last }) => first <= number && number <= last);
  const hole = holes[at];
  if (hole === undefined) return false;
  const { first, last, excused } = hole;
  holes.splice(
    at,
    1,
    ...[{ first, last: number - 1, excused }, { first: number + 1, last, excused }]
      .filter((part) => part.first <= part.last),
  );
  return true;
}
