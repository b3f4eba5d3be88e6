/**
 * The judge: from what happened in one run of a scenario to its figures, and from the
 * figures of its runs to the row of the table.
 *
 * @module
 */

import { compare } from "../lab/compare.ts";
import { producerOf } from "../lab/packets.ts";
import type { Record, RecordedConnection } from "../lab/record.ts";
import { type Host, hostOf } from "./network.ts";
import type { Outcome } from "./producer.ts";
import type { Expectation, Scenario } from "./scenario.ts";
import type { ServiceEnd } from "./service.ts";

/** How long a lease is good by default. */
const LEASE_SECONDS = 3;
/** Beside what the engine or the lease takes. */
const GRACE_SECONDS = 1;
/** How a sender ends that has lost its right. */
const FENCED = /another sender has taken it over/;
/** How one ends that was started while there was no primary. */
const NO_PRIMARY = /no primary can be reached/;

/** From when to when, in milliseconds since 1970. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** What one edge left behind. */
export interface EdgeEvidence {
  /** With which its packets begin, and no others. */
  readonly letter: string;
  /** What its file has said of each packet; ids are the file's. */
  readonly outcomes: readonly Outcome[];
  /** Packets and dead letters that are still in the file. */
  readonly left: number;
}

/** What one run left behind. */
export interface Evidence {
  /** What each producer was told of each packet. */
  readonly outcomes: readonly Outcome[];
  readonly edges: readonly EdgeEvidence[];
  /** What the server read. */
  readonly record: Record;
  /** The last id that the database has given, and what it still has to send. */
  readonly database: { readonly lastId: number; readonly packets: number };
  /** Who took the lease, by the address of its connection. */
  readonly tenures: readonly { readonly epoch: number; readonly host: Host | undefined }[];
  /** Who removed packets, under which epoch. */
  readonly removals: readonly { readonly epoch: number; readonly host: Host | undefined }[];
  /** Senders and forwarders that ended by themselves. */
  readonly ends: readonly ServiceEnd[];
  /** While there was no standby. */
  readonly noStandby: readonly Span[];
  /** From the first fault until producers were told to stop. */
  readonly disturbed: Span;
  /** What the runner found missing while it ran. */
  readonly troubles: readonly string[];
  readonly seconds: number;
}

/** The figures of one run. */
export interface Figures {
  readonly acknowledged: number;
  /** Acknowledged, and never read by the server. */
  readonly lost: number;
  readonly storedTwice: number;
  /** Packets that the server read more than once. */
  readonly duplicates: number;
  /** Out of order, or skipped, within one connection. */
  readonly outOfOrder: number;
  /** Refused by the queue, so that the producer knows that they are not stored. */
  readonly refused: number;
  /** The longest time after the first fault in which nothing was acknowledged, in one stream. */
  readonly storingSeconds: number;
  /** The longest time after the first fault in which the server read nothing of one stream. */
  readonly failoverSeconds: number;
  readonly seconds: number;
  /** What went against the expectations, but for times. */
  readonly failures: readonly string[];
}

/** A row of the table: one scenario, all its runs. */
export interface Row extends Omit<Figures, "seconds"> {
  readonly scenario: string;
  readonly title: string;
  readonly runs: number;
  /** The shortest of all runs. */
  readonly leastFailoverSeconds: number;
  /** The longest of all runs. */
  readonly mostFailoverSeconds: number;
}

/** Packets that one place has put in order: the cluster's queue, or the file of an edge. */
interface Stream {
  /** What it has acknowledged, in its order. */
  readonly stored: readonly (Outcome & { readonly id: number })[];
  /** What the server read of it. */
  readonly record: Record;
}

/** Takes the figures. */
export function figuresOf(scenario: Scenario, evidence: Evidence): Figures {
  const { outcomes, edges, record, database, noStandby, disturbed, ends } = evidence;
  const refused = outcomes.filter(({ id }) => id === undefined);
  const failures: string[] = [...evidence.troubles];
  const none = (count: number, words: string) => {
    if (count > 0) failures.push(`${count} ${words}`);
  };

  const isOfEdge = (packet: Uint8Array) =>
    edges.some(({ letter }) => letter === producerOf(packet));
  const ofProducers = streamOf(outcomes, record, (packet) => !isOfEdge(packet));
  const streams = [
    ofProducers,
    ...edges.map(({ letter, outcomes }) =>
      streamOf(outcomes, record, (packet) => letter === producerOf(packet))
    ),
  ];
  const acknowledged = sum(streams, ({ stored }) => stored.length);
  none(
    sum(streams, ({ stored }) => stored.length - new Set(stored.map(({ id }) => id)).size),
    "packets were given the id of another one",
  );
  none(acknowledged - database.lastId, "acknowledged packets have no id in the database");
  const comparisons = streams.map(({ stored, record }) =>
    compare(stored.map(({ packet }) => packet), record)
  );
  const lost = sum(comparisons, (comparison) => comparison.lost.length);
  const storedTwice = Math.max(
    database.lastId - acknowledged,
    sum(comparisons, (comparison) => comparison.duplicatedWithinConnection),
    0,
  );
  const outOfOrder = sum(
    comparisons,
    (comparison) => comparison.outOfOrderWithinConnection + comparison.gapsWithinConnection,
  );
  none(lost, "acknowledged packets lost");
  none(storedTwice, "packets stored twice");
  none(outOfOrder, "times out of order within a connection");
  none(
    sum(comparisons, ({ unknown }) => unknown),
    "packets were read that were refused, or that nobody had stored",
  );
  none(
    sum(edges, ({ outcomes }) => outcomes.filter(({ id }) => id === undefined).length),
    "packets were refused by an edge's file",
  );
  none(sum(edges, ({ left }) => left), "packets were left in an edge's file");
  none(database.packets, "packets were left in the queue");
  none(staleReads(record), "packets were sent by a sender that had lost its right");
  none(staleRemovals(evidence), "removals by a sender that had lost its right");
  none(
    ofProducers.stored.filter(({ askedAtMs, answeredAtMs }) =>
      noStandby.some(({ fromMs, toMs }) => askedAtMs >= fromMs && answeredAtMs <= toMs)
    ).length,
    "packets were acknowledged while there was no standby",
  );
  for (const { host, code, signal, last } of ends) {
    const words = last?.message ?? "nothing";
    if (code !== 0 && (FENCED.test(words) || NO_PRIMARY.test(words))) continue;
    // One that stands by has nothing to finish when it is told to end.
    if (signal !== "SIGTERM" && code !== 0) {
      failures.push(`${host} ended with ${signal ?? code} and said: ${words}`);
    }
  }
  if (scenario.expect.fenced && !ends.some(({ last }) => FENCED.test(last?.message ?? ""))) {
    failures.push("no sender ended because it had lost its right");
  }
  return {
    acknowledged,
    lost,
    storedTwice,
    duplicates: sum(comparisons, ({ duplicated }) => duplicated),
    outOfOrder,
    refused: refused.length,
    storingSeconds: longestSilence(
      streams,
      disturbed,
      ({ stored }) => stored.map(({ answeredAtMs }) => answeredAtMs),
    ),
    failoverSeconds: longestSilence(
      streams,
      disturbed,
      ({ record }) => record.flatMap(({ packets }) => packets.map(({ readAtMs }) => readAtMs)),
    ),
    seconds: evidence.seconds,
    failures,
  };
}

/** Puts the runs of one scenario together: the worst of counts, the median of times. */
export function rowOf({ name, title, expect }: Scenario, runs: readonly Figures[]): Row {
  const worst = (figure: (run: Figures) => number) => Math.max(0, ...runs.map(figure));
  const storingSeconds = median(runs.map((run) => run.storingSeconds));
  const failovers = runs.map((run) => run.failoverSeconds).toSorted((a, b) => a - b);
  const failoverSeconds = median(failovers);
  const failures = new Set(runs.flatMap((run) => run.failures));
  const limit = limitOf(expect, storingSeconds);
  if (failoverSeconds > limit) {
    failures.add(
      `nothing was delivered for ${failoverSeconds.toFixed(2)} s, ${limit.toFixed(2)} at most`,
    );
  }
  const { storingWithinSeconds = Infinity } = expect;
  if (storingSeconds > storingWithinSeconds) {
    failures.add(
      `nothing was stored for ${storingSeconds.toFixed(2)} s, ` +
        `${storingWithinSeconds.toFixed(2)} at most`,
    );
  }
  return {
    scenario: name,
    title,
    runs: runs.length,
    acknowledged: runs.reduce((sum, run) => sum + run.acknowledged, 0),
    lost: worst((run) => run.lost),
    storedTwice: worst((run) => run.storedTwice),
    duplicates: worst((run) => run.duplicates),
    outOfOrder: worst((run) => run.outOfOrder),
    refused: worst((run) => run.refused),
    storingSeconds,
    failoverSeconds,
    leastFailoverSeconds: failovers[0] ?? 0,
    mostFailoverSeconds: failovers.at(-1) ?? 0,
    failures: [...failures],
  };
}

function limitOf({ failoverWithinSeconds }: Expectation, storingSeconds: number): number {
  switch (failoverWithinSeconds) {
    case "engine":
      return Math.max(storingSeconds, LEASE_SECONDS) + GRACE_SECONDS;
    case "engine-then-lease":
      return storingSeconds + LEASE_SECONDS + GRACE_SECONDS;
    default:
      return failoverWithinSeconds ?? Infinity;
  }
}

/** Packets read from one sender after another one, whose connection began later, had begun. */
function staleReads(record: Record): number {
  const connections = record.filter(({ packets }) => packets.length > 0)
    .toSorted((a, b) => beginOf(a) - beginOf(b));
  return connections.reduce((sum, connection, at) => {
    const next = connections.slice(at + 1)
      .find(({ peer }) => hostOf(peer) !== hostOf(connection.peer));
    if (next === undefined) return sum;
    const fromMs = beginOf(next);
    return sum + connection.packets.filter(({ readAtMs }) => readAtMs > fromMs).length;
  }, 0);
}

function beginOf({ packets }: RecordedConnection): number {
  return packets[0]?.readAtMs ?? Infinity;
}

function staleRemovals({ tenures, removals }: Evidence): number {
  const holders = new Map(tenures.map(({ epoch, host }) => [epoch, host]));
  return removals.filter(({ epoch, host }) => holders.get(epoch) !== host).length;
}

function streamOf(
  outcomes: readonly Outcome[],
  record: Record,
  isOfStream: (packet: Uint8Array) => boolean,
): Stream {
  return {
    stored: outcomes.filter(isStored).toSorted((a, b) => a.id - b.id),
    record: record.map((connection) => ({
      ...connection,
      packets: connection.packets.filter(({ bytes }) => isOfStream(bytes)),
    })),
  };
}

function longestSilence(
  streams: readonly Stream[],
  disturbed: Span,
  timesOf: (stream: Stream) => readonly number[],
): number {
  return Math.max(...streams.map((stream) => silenceSeconds(timesOf(stream), disturbed)));
}

function silenceSeconds(times: readonly number[], { fromMs, toMs }: Span): number {
  const within = times.filter((time) => time > fromMs && time < toMs).toSorted((a, b) => a - b);
  let longest = 0;
  let before = fromMs;
  for (const time of [...within, toMs]) {
    longest = Math.max(longest, time - before);
    before = time;
  }
  return longest / 1000;
}

function isStored(outcome: Outcome): outcome is Outcome & { readonly id: number } {
  return outcome.id !== undefined;
}

function sum<T>(values: readonly T[], figure: (value: T) => number): number {
  return values.reduce((total, value) => total + figure(value), 0);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
