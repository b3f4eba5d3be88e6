/** The figures of a forwarder; those of its edge's file among them. */

import type {
  ForwarderState,
  ForwarderStats,
  ReadableForwarder,
} from "../postgres/forwarder_status.ts";
import {
  counter,
  type Figure,
  fileBytesOf,
  gauge,
  oneHot,
  QUEUE_FIGURES,
  type QueueReading,
  secondsSince,
} from "./figures.ts";

export interface ForwarderReading extends QueueReading {
  readonly stats: ForwarderStats;
  readonly state: ForwarderState;
}

const STATES: Record<ForwarderState, true> = {
  "connecting": true,
  "forwarding": true,
  "full": true,
  "backing-off": true,
  "closed": true,
};

/** In the order in which they are published. */
export const FORWARDER_FIGURES: readonly Figure<ForwarderReading>[] = [
  ...QUEUE_FIGURES,
  counter(
    "sendq.forwarder.forwarded.packets",
    "{packet}",
    "Packets that the cluster has taken.",
    ({ stats }) => stats.forwardedPackets,
  ),
  counter(
    "sendq.forwarder.forwarded.size",
    "By",
    "Bytes of the packets that the cluster has taken.",
    ({ stats }) => stats.forwardedBytes,
  ),
  gauge(
    "sendq.forwarder.through",
    "1",
    "The highest id of the edge's file that the cluster has; none until it was asked.",
    ({ stats }) => stats.through,
  ),
  counter(
    "sendq.forwarder.beginnings",
    "{beginning}",
    "How often it asked the cluster anew what it has, the first time among them.",
    ({ stats }) => stats.beginnings,
  ),
  counter(
    "sendq.forwarder.failures",
    "{failure}",
    "Attempts that failed, and connections to the cluster that broke.",
    ({ stats }) => stats.failures,
  ),
  gauge(
    "sendq.forwarder.answer.age",
    "s",
    "Time since the cluster last answered; none until it has.",
    ({ stats: { answeredAtMs }, wallMs }) => secondsSince(answeredAtMs, wallMs),
  ),
  {
    name: "sendq.forwarder.state",
    unit: "1",
    kind: "updowncounter",
    description: "1 for the state that the forwarder is in, 0 for the others.",
    points: ({ state }) => oneHot("sendq.forwarder.state.name", STATES, state),
  },
];

export function readForwarder(forwarder: ReadableForwarder, wallMs: number): ForwarderReading {
  return {
    stats: forwarder.stats(),
    state: forwarder.state,
    wallMs,
    fileBytes: fileBytesOf(forwarder.queue.path),
  };
}
