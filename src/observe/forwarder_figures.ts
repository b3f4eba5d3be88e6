/**
 * The figures of a forwarder; those of its edge's file among them.
 *
 * @module
 */

import type {
  ForwarderState,
  ForwarderStats,
  ReadableForwarder,
} from "../postgres/forwarder_status.ts";
import {
  type Figure,
  fileBytesOf,
  one,
  oneHot,
  QUEUE_FIGURES,
  type QueueReading,
} from "./figures.ts";

/** What they are read from. */
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
  {
    name: "sendq.forwarder.forwarded.packets",
    unit: "{packet}",
    kind: "counter",
    description: "Packets that the cluster has taken.",
    points: ({ stats }) => one(stats.forwardedPackets),
  },
  {
    name: "sendq.forwarder.forwarded.size",
    unit: "By",
    kind: "counter",
    description: "Bytes of the packets that the cluster has taken.",
    points: ({ stats }) => one(stats.forwardedBytes),
  },
  {
    name: "sendq.forwarder.through",
    unit: "1",
    kind: "gauge",
    description: "The highest id of the edge's file that the cluster has; none until it was asked.",
    points: ({ stats }) => one(stats.through),
  },
  {
    name: "sendq.forwarder.beginnings",
    unit: "{beginning}",
    kind: "counter",
    description: "How often it asked the cluster anew what it has, the first time among them.",
    points: ({ stats }) => one(stats.beginnings),
  },
  {
    name: "sendq.forwarder.failures",
    unit: "{failure}",
    kind: "counter",
    description: "Attempts that failed, and connections to the cluster that broke.",
    points: ({ stats }) => one(stats.failures),
  },
  {
    name: "sendq.forwarder.answer.age",
    unit: "s",
    kind: "gauge",
    description: "Time since the cluster last answered; none until it has.",
    points: ({ stats: { answeredAtMs }, wallMs }) =>
      one(answeredAtMs === undefined ? undefined : Math.max(0, wallMs - answeredAtMs) / 1000),
  },
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
