/**
 * The figures that are published about a sender: one table, from which both the
 * OpenTelemetry instruments and `/metrics` are made, and which `docs/METRICS.md`
 * repeats for people.
 *
 * Names and units follow the OpenTelemetry semantic conventions: lower case,
 * dots between namespaces, no unit in a name, units in UCUM.
 *
 * @module
 */

import type { ReplicationStats, StandbyStats } from "../base/cluster_stats.ts";
import type { VerdictKind } from "../delivery/liveness.ts";
import type { SenderState, SenderStats } from "../delivery/status.ts";
import type { Condition } from "../sender/condition.ts";
import type { Sender } from "../sender/sender.ts";
import { verdictToTell } from "../sender/verdict_meaning.ts";

/** What a figure of a queue is read from. */
export interface QueueReading {
  readonly stats: Pick<SenderStats, "queue">;
  /** The wall clock, in milliseconds since 1970. */
  readonly wallMs: number;
  /** The size of the queue's file; undefined where it may not be looked at. */
  readonly fileBytes: number | undefined;
}

/** What a figure of a sender is read from. */
export interface Reading extends QueueReading {
  readonly stats: SenderStats;
  readonly state: SenderState;
  /** Undefined where there is none to tell. */
  readonly verdict: VerdictKind | undefined;
  readonly tone: Condition["tone"];
}

/** One value of a figure. */
export interface Point {
  readonly value: number;
  /** What tells it apart from the figure's other points. */
  readonly attributes?: Readonly<Record<string, string>>;
}

/** One figure. */
export interface Figure<R = Reading> {
  /** OpenTelemetry's name, for example `"sendq.queue.size"`. */
  readonly name: string;
  /** UCUM: `"By"`, `"s"`, `"1"`, or what is counted, in braces. */
  readonly unit: string;
  /** `"counter"` only grows; `"updowncounter"` can be added up over senders; `"gauge"` cannot. */
  readonly kind: "counter" | "updowncounter" | "gauge";
  /** One sentence. */
  readonly description: string;
  /** Its points at this moment; none where there is nothing to say. */
  readonly points: (reading: R) => readonly Point[];
}

const STATES: Record<SenderState, true> = {
  "idle": true,
  "connecting": true,
  "connected": true,
  "ending": true,
  "backing-off": true,
  "closed": true,
};

const TONES: Record<Condition["tone"], true> = {
  good: true,
  idle: true,
  busy: true,
  warning: true,
  bad: true,
};

const LEVELS: Record<SenderStats["confirmedBy"], true> = {
  kernel: true,
  reader: true,
  answer: true,
};

const VERDICTS: Record<VerdictKind, true> = {
  "healthy": true,
  "slow": true,
  "peer-stalled": true,
  "no-response": true,
  "path-dead": true,
  "local-fault": true,
  "peer-closed": true,
  "closes-early": true,
  "wire-failed": true,
  "ended-here": true,
  "self-connected": true,
  "session-refused": true,
  "packet-refused": true,
  "wrong-answer": true,
  "lookup-hangs": true,
  "removal-stuck": true,
  "reset": true,
  "timed-out": true,
};

const REPLICATION: Record<ReplicationStats["state"], true> = {
  replicated: true,
  blocked: true,
  alone: true,
  unknown: true,
};

/** Those of a queue, whoever takes packets out of it. */
export const QUEUE_FIGURES: readonly Figure<QueueReading>[] = [
  {
    name: "sendq.queue.packets",
    unit: "{packet}",
    kind: "updowncounter",
    description: "Packets on disk, those in flight and held among them.",
    points: ({ stats }) => one(stats.queue.packets),
  },
  {
    name: "sendq.queue.size",
    unit: "By",
    kind: "updowncounter",
    description: "Payload bytes of the packets on disk.",
    points: ({ stats }) => one(stats.queue.bytes),
  },
  {
    name: "sendq.queue.file.size",
    unit: "By",
    kind: "updowncounter",
    description: "Size of the queue's file, without its write-ahead log.",
    points: ({ fileBytes }) => one(fileBytes),
  },
  {
    name: "sendq.queue.oldest_packet.age",
    unit: "s",
    kind: "gauge",
    description: "Time since the oldest packet on disk was stored; 0 when there is none.",
    points: ({ stats, wallMs }) => {
      const { oldestEnqueuedAtMs } = stats.queue;
      if (oldestEnqueuedAtMs === undefined) return one(0);
      return one(Math.max(0, wallMs - oldestEnqueuedAtMs) / 1000);
    },
  },
  {
    name: "sendq.queue.waiting.packets",
    unit: "{packet}",
    kind: "updowncounter",
    description: "Packets of this process that wait to be stored.",
    points: ({ stats }) => one(stats.queue.waitingPackets),
  },
  {
    name: "sendq.queue.store_failure.age",
    unit: "s",
    kind: "gauge",
    description: "For how long this process could store nothing that it tried to; 0: it can.",
    points: ({ stats, wallMs }) => {
      const { storeFailure } = stats.queue;
      return one(
        storeFailure === undefined ? 0 : Math.max(0, wallMs - storeFailure.sinceMs) / 1000,
      );
    },
  },
  {
    name: "sendq.queue.stored.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets stored by any process, since the queue's file was made.",
    points: ({ stats }) => one(stats.queue.lastId),
  },
  {
    name: "sendq.queue.dropped.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets that a full queue removed unsent, since its file was made.",
    points: ({ stats }) => one(stats.queue.droppedPackets),
  },
  {
    name: "sendq.queue.expired.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets that expired unconfirmed, since the queue's file was made.",
    points: ({ stats }) => one(stats.queue.expiredPackets),
  },
  {
    name: "sendq.queue.given_up.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets given up after maxAttempts, since the queue's file was made.",
    points: ({ stats }) => one(stats.queue.gaveUpPackets),
  },
  {
    name: "sendq.queue.damaged.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets found damaged in the queue's file, since it was made.",
    points: ({ stats }) => one(stats.queue.damagedPackets),
  },
  {
    name: "sendq.queue.refused.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets that the server refused, since the queue's file was made.",
    points: ({ stats }) => one(stats.queue.refusedPackets),
  },
  {
    name: "sendq.dead_letter.packets",
    unit: "{packet}",
    kind: "updowncounter",
    description:
      "Dead letters in the queue's file: expired, given up, damaged or refused, and kept.",
    points: ({ stats }) => one(stats.queue.deadPackets),
  },
  {
    name: "sendq.dead_letter.size",
    unit: "By",
    kind: "updowncounter",
    description: "Payload bytes of the dead letters.",
    points: ({ stats }) => one(stats.queue.deadBytes),
  },
];

/** Every figure of a sender, in the order in which they are published. */
export const FIGURES: readonly Figure[] = [
  ...QUEUE_FIGURES,
  {
    name: "sendq.delivery.in_flight.packets",
    unit: "{packet}",
    kind: "updowncounter",
    description: "Packets given to the present connection and not acknowledged in full.",
    points: ({ stats }) => one(stats.inFlightPackets),
  },
  {
    name: "sendq.delivery.in_flight.size",
    unit: "By",
    kind: "updowncounter",
    description: "Bytes given to the present connection and not acknowledged.",
    points: ({ stats }) => one(stats.inFlightBytes),
  },
  {
    name: "sendq.delivery.held.packets",
    unit: "{packet}",
    kind: "updowncounter",
    description:
      "Packets acknowledged in full that are kept until holdMs has passed, or they are answered.",
    points: ({ stats }) => one(stats.heldPackets),
  },
  {
    name: "sendq.delivery.drained.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets acknowledged in full; one that was sent twice may count twice.",
    points: ({ stats }) => one(stats.drainedPackets),
  },
  {
    name: "sendq.delivery.redelivered.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets sent again after an unclean end or a restart.",
    points: ({ stats }) => one(stats.redeliveredPackets),
  },
  {
    name: "sendq.delivery.io",
    unit: "By",
    kind: "counter",
    description:
      "Bytes acknowledged by the server's TCP (transmit), and received from it (receive).",
    points: ({ stats }) => [
      { value: stats.ackedBytes, attributes: { "network.io.direction": "transmit" } },
      { value: stats.receivedBytes, attributes: { "network.io.direction": "receive" } },
    ],
  },
  {
    name: "sendq.connection.established",
    unit: "{connection}",
    kind: "counter",
    description: "Connections made.",
    points: ({ stats }) => one(stats.connections),
  },
  {
    name: "sendq.connection.failed_attempts",
    unit: "{attempt}",
    kind: "counter",
    description: "Connection attempts that failed.",
    points: ({ stats }) => one(stats.failedAttempts),
  },
  {
    name: "sendq.path.rtt",
    unit: "s",
    kind: "gauge",
    description: "Smoothed round-trip time of the present connection, by the kernel.",
    points: ({ stats: { path } }) => one(path && path.rttMs / 1000),
  },
  {
    name: "sendq.path.silence",
    unit: "s",
    kind: "gauge",
    description: "How long bytes have been outstanding without any sign of the server.",
    points: ({ stats: { path } }) => one(path && path.silenceMs / 1000),
  },
  {
    name: "sendq.path.send_queue.size",
    unit: "By",
    kind: "updowncounter",
    description: "The kernel's Send-Q: bytes written to the connection and not acknowledged.",
    points: ({ stats: { path } }) => one(path?.sendQueueBytes ?? 0),
  },
  {
    name: "sendq.path.not_sent.size",
    unit: "By",
    kind: "updowncounter",
    description: "The part of Send-Q that was never put on the wire.",
    points: ({ stats: { path } }) => one(path?.notSentBytes ?? 0),
  },
  {
    name: "sendq.path.retransmitted.segments",
    unit: "{segment}",
    kind: "gauge",
    description: "Segments retransmitted in the present connection's life.",
    points: ({ stats: { path } }) => one(path?.retransmittedSegments),
  },
  {
    name: "sendq.tls.session",
    unit: "1",
    kind: "updowncounter",
    description: "1 while a connection over TLS is up, with its version and cipher suite.",
    points: ({ stats: { path } }) =>
      path?.tls === undefined ? [] : [{
        value: 1,
        attributes: {
          "tls.protocol.version": path.tls.version.replace("TLSv", ""),
          "tls.cipher": path.tls.cipherSuite,
        },
      }],
  },
  {
    name: "sendq.tls.certificate.remaining",
    unit: "s",
    kind: "gauge",
    description: "Time until a certificate of the present connection expires.",
    points: ({ stats: { path }, wallMs }) => {
      const { serverCertificateExpiresAtMs: server, clientCertificateExpiresAtMs: client } =
        path?.tls ?? {};
      return Object.entries({ server, client }).flatMap(([side, expiresAtMs]) =>
        expiresAtMs === undefined ? [] : [{
          value: (expiresAtMs - wallMs) / 1000,
          attributes: { "sendq.tls.side": side },
        }]
      );
    },
  },
  {
    name: "sendq.state",
    unit: "1",
    kind: "updowncounter",
    description: "1 for what the sender is doing, 0 for what it is not.",
    points: ({ state }) => oneHot("sendq.state.name", STATES, state),
  },
  {
    name: "sendq.condition",
    unit: "1",
    kind: "updowncounter",
    description: "1 for how the sender stands, as a person would say it, 0 for the others.",
    points: ({ tone }) => oneHot("sendq.condition.name", TONES, tone),
  },
  {
    name: "sendq.confirmation",
    unit: "1",
    kind: "updowncounter",
    description: "1 for what confirms a packet, 0 for what does not.",
    points: ({ stats }) => oneHot("sendq.confirmation.name", LEVELS, stats.confirmedBy),
  },
  {
    name: "sendq.verdict",
    unit: "1",
    kind: "updowncounter",
    description: "1 for the verdict on the path, 0 for the others; none without a connection.",
    points: ({ verdict }) =>
      verdict === undefined ? [] : oneHot("sendq.verdict.name", VERDICTS, verdict),
  },
  {
    name: "sendq.lease.valid",
    unit: "1",
    kind: "updowncounter",
    description: "1 while the sender's lease on a queue in a database is valid, 0 while it is not.",
    points: ({ stats: { cluster } }) =>
      cluster?.lease == null ? [] : [{
        value: cluster.lease.validForMs > 0 ? 1 : 0,
        attributes: { "sendq.lease.holder": cluster.lease.holder },
      }],
  },
  {
    name: "sendq.lease.epoch",
    unit: "1",
    kind: "gauge",
    description: "How many tenures the queue has had, with this one.",
    points: ({ stats: { cluster } }) => one(cluster?.lease?.epoch),
  },
  {
    name: "sendq.lease.beat.age",
    unit: "s",
    kind: "gauge",
    description: "Time since the last beat was asked for that the database has taken.",
    points: ({ stats: { cluster } }) =>
      one(cluster?.lease == null ? undefined : cluster.lease.beatAgeMs / 1000),
  },
  {
    name: "sendq.replication.state",
    unit: "1",
    kind: "updowncounter",
    description: "1 for how the database is copied to its standbys, 0 for how it is not.",
    points: ({ stats: { cluster } }) =>
      cluster === undefined
        ? []
        : oneHot("sendq.replication.state.name", REPLICATION, cluster.replication.state),
  },
  {
    name: "sendq.replication.lag.size",
    unit: "By",
    kind: "gauge",
    description: "What a standby does not have on its disk yet of the database's log.",
    points: (reading) => ofStandbys(reading, ({ lagBytes }) => lagBytes),
  },
  {
    name: "sendq.replication.lag.time",
    unit: "s",
    kind: "gauge",
    description: "How long the last commits took to get onto a standby's disk.",
    points: (reading) =>
      ofStandbys(reading, ({ lagMs }) => lagMs === null ? undefined : lagMs / 1000),
  },
  {
    name: "sendq.replication.weak",
    unit: "1",
    kind: "updowncounter",
    description: "1 while a commit means less than durability asks for, else 0.",
    points: ({ stats: { cluster } }) =>
      one(cluster === undefined ? undefined : cluster.weakness === null ? 0 : 1),
  },
];

/** Reads a sender. Costs microseconds; the queue's table is not touched. */
export function readSender(sender: Sender, wallMs: number): Reading {
  return {
    stats: sender.stats(),
    state: sender.state,
    verdict: verdictToTell(sender.state, sender.verdict)?.kind,
    tone: sender.condition.tone,
    wallMs,
    fileBytes: fileBytesOf(sender.queue.path),
  };
}

/** Looks, and never opens: closing a descriptor of the file would drop SQLite's locks. */
export function fileBytesOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch {
    return undefined; // Not permitted, or gone: no reason to publish nothing else.
  }
}

/** A figure's only point; none where there is nothing to say. */
export function one(value: number | undefined): readonly Point[] {
  return value === undefined ? [] : [{ value }];
}

function ofStandbys(
  { stats: { cluster } }: Reading,
  read: (standby: StandbyStats) => number | undefined,
): readonly Point[] {
  // Two of one name would be the same point twice: the one that is further behind is told.
  const behind = new Map<string, number>();
  for (const standby of cluster?.replication.standbys ?? []) {
    const value = read(standby);
    if (value === undefined) continue;
    behind.set(standby.name, Math.max(value, behind.get(standby.name) ?? 0));
  }
  return [...behind].map(([name, value]) => ({
    value,
    attributes: { "sendq.standby.name": name },
  }));
}

/** One point a name: 1 for the present one. */
export function oneHot(
  key: string,
  names: Record<string, true>,
  present: string,
): readonly Point[] {
  return Object.keys(names).map((name) => ({
    value: name === present ? 1 : 0,
    attributes: { [key]: name },
  }));
}
