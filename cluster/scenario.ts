/**
 * What a scenario of the cluster ring is made of. Scenarios are data; the words for them are
 * here, the table is `scenarios.ts`, and `runner.ts` carries them out.
 *
 * @module
 */

/** Servers by what they are at that moment. `"standby"` is the one that commits wait for. */
export type Role = "primary" | "standby" | "standbys";

/** What a cable, or a part of a network, is cut from. */
export type Cut =
  /** The machine of the sender that holds the lease, from everything. */
  | { readonly kind: "sender" }
  /** The same machine from the databases alone: it reaches the server. */
  | { readonly kind: "sender-from-databases" }
  /** The primary's machine, from everything. */
  | { readonly kind: "primary" }
  /** The primary from the other databases alone: producers and senders reach it. */
  | { readonly kind: "primary-from-standbys" }
  /** All producers from all databases. */
  | { readonly kind: "producers-from-databases" }
  /** What the primary says to producers is lost; what they say to it is not. */
  | { readonly kind: "answers-to-producers" }
  /** All edges from all databases. */
  | { readonly kind: "edges-from-databases" }
  /** What the primary says to edges is lost; what they say to it is not. */
  | { readonly kind: "answers-to-edges" };

/** One thing that happens, after the one before it is done. */
export type Step =
  | { readonly do: "wait"; readonly seconds: number }
  /** Until packets are read by the server that were stored after the last fault. */
  | { readonly do: "wait-until-delivered" }
  | { readonly do: "cut"; readonly cut: Cut }
  /** Undoes every cut. */
  | { readonly do: "heal" }
  /** SIGKILL of the sender that holds the lease. */
  | { readonly do: "kill-sender" }
  /** Starts each sender that does not run. */
  | { readonly do: "start-senders" }
  | { readonly do: "stop-sender" }
  | { readonly do: "continue-sender" }
  /** SIGKILL of Patroni and of all of PostgreSQL's processes, at a time; etcd lives. */
  | { readonly do: "kill-database"; readonly which: Role }
  | { readonly do: "start-databases" }
  /** The machine's power is gone. */
  | { readonly do: "kill-machine"; readonly which: "primary" | "standby" }
  /** The machine's power is gone, and its disk is never seen again. */
  | { readonly do: "destroy-machine"; readonly which: "primary" }
  /** Every process of the machine stops. */
  | { readonly do: "stop-machine"; readonly which: "primary" }
  | { readonly do: "continue-machines" }
  /** The power of all three is gone at the same moment. */
  | { readonly do: "power-cut" }
  | { readonly do: "start-machines" }
  /** Until the primary has stored packets of which no producer knows. */
  | { readonly do: "wait-until-unanswered" }
  /** `pg_cancel_backend` of each process that waits for a standby, so often. */
  | { readonly do: "cancel-waits"; readonly times: number }
  /**
   * SIGKILL of each edge's forwarder, so often, at one moment and another. At least one of
   * them has to leave packets in the file that the cluster has, too.
   */
  | { readonly do: "kill-forwarders"; readonly times: number }
  /** Until the cluster has packets of each edge of which the edge does not know that. */
  | { readonly do: "wait-until-edges-unanswered" }
  /** Each edge has to have so many packets in its file: else it was not cut off. */
  | { readonly do: "see-that-edges-hold"; readonly packets: number };

/** What must come out. Always: nothing lost, stored twice, out of order, sent or removed by a
 * sender that has no right to, acknowledged while there was no standby, refused by an edge's
 * file or left in it. */
export interface Expectation {
  /**
   * For how long nothing may be delivered. `"engine"`: as long as nothing could be stored, or
   * for as long as a lease is good, and 1 s more. `"engine-then-lease"`: both, one after the
   * other, and 1 s more. @default not looked at
   */
  readonly failoverWithinSeconds?: number | "engine" | "engine-then-lease";
  /** For how long nothing may be stored. @default not looked at */
  readonly storingWithinSeconds?: number;
  /** The sender that lost its right has to end, and say so. @default false */
  readonly fenced?: true;
}

/** One scenario. */
export interface Scenario {
  /** How it is called on the command line. */
  readonly name: string;
  /** What happens, for a person. */
  readonly title: string;
  /** How many edges there are beside the producers, 3 at most. @default 0 */
  readonly edges?: number;
  readonly steps: readonly Step[];
  readonly expect: Expectation;
}

/** A fault in what is tested, that the judge has to find. */
export interface Planted {
  /** How it is called on the command line. */
  readonly name: string;
  /** What is wrong, for a person. */
  readonly title: string;
  /** The scenario in which it shows. */
  readonly scenario: Scenario;
  readonly fault: {
    /** The record of the server lacks one packet that it has read. */
    readonly isForgetful?: true;
    /** Patroni lets commits through when the last standby is gone. */
    readonly isNotStrict?: true;
    /** Text in functions of the database that is replaced. */
    readonly replaces?: readonly {
      readonly function: string;
      readonly text: string;
      readonly by: string;
    }[];
  };
  /** What the judge has to say. */
  readonly finds: RegExp;
}

/** Waits. */
export const wait = (seconds: number): Step => ({ do: "wait", seconds });

/** Cuts. */
export const cut = (kind: Cut["kind"]): Step => ({ do: "cut", cut: { kind } });

/** Undoes every cut. */
export const heal: Step = { do: "heal" };

/** Until it is delivered again. */
export const delivered: Step = { do: "wait-until-delivered" };
