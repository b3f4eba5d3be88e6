/**
 * What a scenario of the laboratory is made of. Scenarios are data; the words
 * for them are here, the table is `scenarios.ts`, and `runner.ts` carries them out.
 *
 * @module
 */

import type { Place } from "./opened_queue.ts";
import type { BoxName } from "./middle_box.ts";
import type { Direction, RejectKind } from "./network.ts";

/** What goes wrong between the hosts, or on the sender's own; see {@linkcode TestNetwork}. */
export type Fault =
  | { readonly kind: "server-cable-out" }
  | { readonly kind: "server-power-off" }
  | { readonly kind: "own-link-down" }
  | { readonly kind: "own-carrier-lost" }
  | { readonly kind: "route-deleted" }
  | { readonly kind: "route-unreachable" }
  | { readonly kind: "address-deleted" }
  | { readonly kind: "silent-drop"; readonly direction: Direction }
  | { readonly kind: "acks-dropped" }
  | { readonly kind: "rejected"; readonly by: RejectKind }
  | { readonly kind: "syn-blackhole" }
  | { readonly kind: "loss"; readonly percent: number }
  | { readonly kind: "slow-link"; readonly kbitPerSecond: number; readonly queueBytes: number }
  | { readonly kind: "delay"; readonly roundTripMs: number };

/**
 * One thing that happens, after the one before it is done.
 *
 * Times to wait are what they are on a machine with nothing else to do. On any
 * other a step waits longer where it would make no sense yet: the first one that
 * changes anything, until the server has read something of the traffic so far;
 * one that heals, until the verdict is named that the scenario expects.
 *
 * The clock of "noticed" starts when the first step is done that is not waiting,
 * traffic, or the server's `stop-reading`, `read-rate` or `await-unread`. The clock of
 * "delivered after the heal" starts when the last step is done that heals: `heal`, `start-server`, `start-box`, `signal-server SIGCONT`,
 * `signal-sender SIGCONT`, `server resume`, `start-sender`.
 */
export type Step =
  | { readonly do: "wait"; readonly seconds: number }
  /** Waits until the command has named a verdict since the first fault. */
  | { readonly do: "wait-until-noticed"; readonly deadlineSeconds: number }
  /** Until this step there is no traffic; without it traffic starts at once. */
  | { readonly do: "start-traffic" }
  | { readonly do: "pause-traffic" }
  | { readonly do: "cut"; readonly fault: Fault }
  /** Undoes every cut. */
  | { readonly do: "heal" }
  /** A command of the recording server, see `recorder.ts`. */
  | { readonly do: "server"; readonly command: string }
  | { readonly do: "kill-server" }
  | { readonly do: "start-server" }
  | { readonly do: "signal-server"; readonly signal: "SIGSTOP" | "SIGCONT" }
  /** The middle box, with whatever it holds. */
  | { readonly do: "kill-box" }
  | { readonly do: "start-box" }
  /** The server's host loses all processes and connections, and is up again at once, empty. */
  | { readonly do: "reboot-server" }
  | { readonly do: "kill-sender" }
  | { readonly do: "start-sender" }
  | { readonly do: "signal-sender"; readonly signal: "SIGSTOP" | "SIGCONT" }
  /** The sender's host loses all processes and connections without a word, and is up again. */
  | { readonly do: "power-cut-sender" }
  /** Killed and started again, each time at a random instant from 0 to `withinSeconds`. */
  | { readonly do: "kill-sender-often"; readonly times: number; readonly withinSeconds: number }
  /** A second `send` on the same queue; waits for its end. */
  | { readonly do: "start-second-sender" }
  /** Other processes that enqueue into the same file, each with packets of its own. */
  | {
    readonly do: "start-enqueuers";
    readonly processes: number;
    readonly packets: number;
    readonly perSecond: number;
  }
  /** Moves the wall clock of the sender's process; 0 is the true time. */
  | { readonly do: "move-clock"; readonly seconds: number }
  | { readonly do: "fill-disk" }
  | { readonly do: "free-disk" };

/** What the producer writes into the command's standard input. */
export interface Traffic {
  readonly perSecond: number;
  /** Size of a packet, with its newline. */
  readonly bytes: number;
  /** How many in all. @default until the steps are done */
  readonly packets?: number;
}

/** Names of verdicts, as in the library, and one for attempts that do not get that far. */
export type Named =
  | "path-dead"
  | "local-fault"
  | "peer-stalled"
  | "peer-closed"
  | "reset"
  | "timed-out"
  | "no-response"
  | "closes-early"
  | "ended-here"
  | "cannot-connect";

/**
 * What must come out. Always: nothing in disorder within a connection, nothing
 * torn or invented, no more duplicates than were in flight or held when a
 * connection or the sender died, an empty queue and exit code 0 at the end.
 */
export interface Expectation {
  /** `"some"`: what no kernel reading can see; the table says how many. @default {0} */
  readonly lost?: 0 | "some";
  /** So many packets twice at the most. @default what was in flight or held at each bad end */
  readonly duplicated?: number;
  /** The first verdict named after the fault. @default not looked at */
  readonly verdict?: Named | readonly Named[];
  /** From the fault to that verdict. */
  readonly noticedWithinSeconds?: number;
  /** From the heal until the server has read all that was sent before the heal. */
  readonly deliveredWithinSeconds?: number;
  /** Over this many connections in all; 1 means that no alarm was raised. */
  readonly connections?: number;
  /** A line that the command must have logged. */
  readonly says?: RegExp;
  /** What the second sender must have said, with exit code 1. */
  readonly secondSenderSays?: RegExp;
  /** Times in the log must show the clock's jumps, or nothing was tested. */
  readonly clockMoved?: true;
}

/** One row of the laboratory's table. */
export interface Scenario {
  /** How it is called on the command line. */
  readonly name: string;
  /** What happens, for a person. */
  readonly title: string;
  /** @default {"routed"} */
  readonly topology?: "routed" | "same-segment";
  /** What the network is like throughout. */
  readonly conditions?: readonly Fault[];
  /** @default 200 packets of 100 bytes a second, as in the peers' measurements */
  readonly traffic?: Traffic;
  /**
   * What the sender connects to, on its own host, instead of the server, or what it goes
   * through. @default nothing
   */
  readonly box?: BoxName;
  /** The server listens on a Unix socket, which is of no network. */
  readonly unixSocket?: true;
  /** Sender and server speak TLS; the server by OpenSSL, so that it answers KeyUpdates. */
  readonly tls?: true;
  /** A second server, on the router, as the second of two remotes. Its clock of "delivered" starts with the fault. */
  readonly standby?: true;
  /** Commands with which each life of the server begins, see `recorder.ts`. @default none */
  readonly serverCommands?: readonly string[];
  /** Further flags of the `send` command. @default none: what users get */
  readonly flags?: readonly string[];
  /** What must be installed besides. */
  readonly needs?: "libfaketime";
  /** The queue lies on a filesystem of its own, of this size. */
  readonly diskBytes?: number;
  /** What the queue's file is. @default {"file"} */
  readonly place?: Place;
  readonly steps: readonly Step[];
  readonly expect: Expectation;
  /** No fault, only hard conditions: `--long` runs it for ten minutes. */
  readonly steady?: true;
  /** Part of the selection that `deno task test` runs. */
  readonly quick?: true;
}

// The words that the table is written in.

/** Waits. */
export const wait = (seconds: number): Step => ({ do: "wait", seconds });

/** Injects a fault. */
export const cut = (fault: Fault): Step => ({ do: "cut", fault });

/** Undoes every cut. */
export const heal: Step = { do: "heal" };

/** Gives the recording server a command. */
export const server = (command: string): Step => ({ do: "server", command });

/** A fault that heals after a time, with traffic before and after. */
export const outage = (fault: Fault, seconds: number): Step[] => [
  wait(2),
  cut(fault),
  wait(seconds),
  heal,
  wait(2.5),
];

/** The same steps several times. */
export const repeat = (times: number, steps: readonly Step[]): Step[] =>
  Array.from({ length: times }, () => steps).flat();

/** A steady scenario, but for so long. */
export const lasting = (scenario: Scenario, seconds: number): Scenario => ({
  ...scenario,
  steps: scenario.steps.map((step) => step.do === "wait" ? wait(seconds) : step),
});

/** How long a scenario takes at least. */
export function secondsOf({ steps, traffic }: Scenario): number {
  const waits = steps.reduce((sum, step) => {
    switch (step.do) {
      case "wait":
        return sum + step.seconds;
      case "wait-until-noticed":
        return sum + step.deadlineSeconds / 2;
      case "kill-sender-often":
        return sum + step.times * (step.withinSeconds / 2 + 0.3);
      default:
        return sum;
    }
  }, 0);
  return Math.max(waits, (traffic?.packets ?? 0) / (traffic?.perSecond ?? 1));
}
