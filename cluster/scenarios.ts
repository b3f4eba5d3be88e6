/**
 * The table of the cluster ring: one entry for each scenario. Its words are explained in
 * `scenario.ts`.
 *
 * @module
 */

import { cut, delivered, heal, type Planted, type Scenario, type Step, wait } from "./scenario.ts";

/** The lease, and a look; a connection; a busy machine. */
const SENDER = { failoverWithinSeconds: 5 } as const;
const ENGINE = { failoverWithinSeconds: "engine" } as const;
/** A file needs no cluster; a busy machine. */
const EDGE = { storingWithinSeconds: 5 } as const;

const killSender: readonly Step[] = [{ do: "kill-sender" }, delivered, { do: "start-senders" }];
const startMachines: Step = { do: "start-machines" };
const startDatabases: Step = { do: "start-databases" };

/** Every scenario, in the order of the report. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: "sender-killed",
    title: "the sender is killed, three times",
    steps: [...killSender, wait(2), ...killSender, wait(2), ...killSender],
    expect: SENDER,
  },
  {
    name: "sender-stopped",
    title: "the sender is stopped for 10 s and continued",
    steps: [{ do: "stop-sender" }, wait(10), { do: "continue-sender" }, wait(3)],
    expect: { ...SENDER, fenced: true },
  },
  {
    name: "sender-cut-off",
    title: "the sender's machine is cut off for 10 s",
    steps: [cut("sender"), wait(10), heal, wait(3)],
    expect: { ...SENDER, fenced: true },
  },
  {
    name: "sender-cut-from-databases",
    title: "the sender reaches the server and no database for 10 s",
    steps: [cut("sender-from-databases"), wait(10), heal, wait(3)],
    expect: { ...SENDER, fenced: true },
  },
  {
    name: "primary-killed",
    title: "the primary's processes are killed",
    steps: [{ do: "kill-database", which: "primary" }, delivered, wait(2), startDatabases, wait(2)],
    expect: ENGINE,
  },
  {
    name: "primary-power-cut",
    title: "the primary's machine loses its power",
    steps: [{ do: "kill-machine", which: "primary" }, delivered, wait(2), startMachines, wait(2)],
    expect: ENGINE,
  },
  {
    name: "primary-stopped",
    title: "the primary's machine is stopped for 16 s and continued",
    steps: [
      { do: "stop-machine", which: "primary" },
      wait(16),
      { do: "continue-machines" },
      wait(3),
    ],
    expect: ENGINE,
  },
  {
    name: "primary-cut-off",
    title: "the primary's machine is cut off for 15 s",
    steps: [cut("primary"), wait(15), heal, wait(3)],
    expect: ENGINE,
  },
  {
    name: "primary-cut-from-standbys",
    title: "producers and senders reach the old primary, the other databases do not, for 15 s",
    steps: [cut("primary-from-standbys"), wait(15), heal, wait(3)],
    expect: ENGINE,
  },
  {
    name: "primary-destroyed",
    title: "the primary's machine is destroyed, with its disk",
    steps: [{ do: "destroy-machine", which: "primary" }, delivered, wait(3)],
    expect: ENGINE,
  },
  {
    name: "sender-and-primary",
    title: "the sender and the primary's machine die at the same moment",
    steps: [
      ...[{ do: "kill-sender" }, { do: "kill-machine", which: "primary" }, delivered] as const,
      ...[startMachines, { do: "start-senders" }, wait(2)] as const,
    ],
    // Those who wait begin to watch the beat anew with each primary: its predecessor may
    // have had a beat that this one has not.
    expect: { failoverWithinSeconds: "engine-then-lease" },
  },
  {
    name: "standby-killed",
    title: "the standby that commits wait for loses its power",
    steps: [{ do: "kill-machine", which: "standby" }, delivered, wait(3), startMachines, wait(2)],
    expect: ENGINE,
  },
  {
    name: "standbys-killed",
    title: "both standbys are killed for 8 s: nothing is acknowledged",
    steps: [{ do: "kill-database", which: "standbys" }, wait(8), startDatabases, delivered],
    expect: ENGINE,
  },
  {
    name: "waits-cancelled",
    title: "both standbys are killed, and every wait for them is given up by hand, 20 times",
    steps: [
      { do: "kill-database", which: "standbys" },
      wait(1),
      { do: "cancel-waits", times: 20 },
      ...[startDatabases, delivered],
    ],
    expect: ENGINE,
  },
  {
    name: "producers-cut-off",
    title: "producers reach no database for 15 s",
    steps: [cut("producers-from-databases"), wait(15), heal, delivered],
    expect: ENGINE,
  },
  {
    name: "answers-lost",
    title: "the primary stores, its answers are lost, and its machine loses its power",
    steps: [
      cut("answers-to-producers"),
      { do: "wait-until-unanswered" },
      { do: "kill-machine", which: "primary" },
      ...[heal, delivered, startMachines, wait(2)],
    ],
    expect: ENGINE,
  },
  {
    name: "power-cut",
    title: "the power of all three machines is cut at the same moment",
    steps: [{ do: "power-cut" }, startMachines, delivered],
    expect: ENGINE,
  },
  {
    name: "forwarder-killed",
    title: "an edge's forwarder is killed 50 times, while the edge stores packets",
    edges: 1,
    steps: [{ do: "kill-forwarders", times: 50 }, delivered],
    expect: EDGE,
  },
  {
    name: "edges-cut-off",
    title: "answers to three edges are lost, then they reach no database for a minute",
    edges: 3,
    steps: [
      cut("answers-to-edges"),
      { do: "wait-until-edges-unanswered" },
      cut("edges-from-databases"),
      wait(60),
      { do: "see-that-edges-hold", packets: 500 },
      ...[heal, delivered],
    ],
    // The minute, and until the answers were lost; a connection that is tried just then; a pause.
    expect: { ...EDGE, failoverWithinSeconds: 75 },
  },
];

function named(name: string): Scenario {
  const scenario = SCENARIOS.find((scenario) => scenario.name === name);
  if (scenario === undefined) throw new RangeError(`there is no scenario ${name}`);
  return scenario;
}

/** A forwarder that begins again begins with the first packet of its file. */
const FORGETS_EDGES: Planted["fault"] = {
  replaces: [
    {
      function: "sendq.edge_open",
      text: "'through', e.through, 'markMs'",
      by: "'through', 0, 'markMs'",
    },
    {
      function: "sendq.edge_open",
      text: "looked_through = coalesce(e.through, 0)",
      by: "looked_through = 0",
    },
    {
      function: "sendq.edge_forward",
      text: "IF e.through <> (terms->>'after')::bigint THEN",
      by: "IF false THEN",
    },
  ],
};

/** A judge is tried, too: each of these it has to find. */
export const PLANTED: readonly Planted[] = [
  {
    name: "forgetful-server",
    title: "a packet that was read is not in the server's record",
    scenario: named("sender-killed"),
    fault: { isForgetful: true },
    finds: /acknowledged packets? lost/,
  },
  {
    name: "not-fenced",
    title: "every sender is told that its lease is the present one, and may remove",
    scenario: named("sender-stopped"),
    fault: {
      replaces: [
        {
          function: "sendq.lease_beat",
          text: "IF l.tenure IS DISTINCT FROM held_tenure THEN",
          by: "IF false THEN",
        },
        {
          function: "sendq.holds",
          text: "IF (fence->>'tenure')::uuid = c.tenure THEN",
          by: "IF fence->>'tenure' IS NOT NULL THEN",
        },
      ],
    },
    finds: /had lost its right/,
  },
  {
    name: "asked-twice-stored-twice",
    title: "a question that is asked again is stored again",
    scenario: named("answers-lost"),
    fault: {
      replaces: [
        { function: "sendq.commit", text: "IF had.call = commit.call THEN", by: "IF false THEN" },
        {
          function: "sendq.commit",
          text: "IF coalesce(had.call, 0) <> commit.call - 1 THEN",
          by: "IF false THEN",
        },
      ],
    },
    finds: /stored twice/,
  },
  {
    name: "not-strict",
    title: "Patroni is not strict, and sendq does not ask how far a commit is replicated",
    scenario: named("standbys-killed"),
    fault: {
      isNotStrict: true,
      replaces: [{
        function: "sendq.weakness",
        text: "btrim(current_setting('synchronous_standby_names')) = ''",
        by: "false",
      }],
    },
    finds: /while there was no standby/,
  },
  {
    name: "forgets-a-killed-forwarder",
    title: "a forwarder that is started again is told that the cluster has nothing of its file",
    scenario: named("forwarder-killed"),
    fault: FORGETS_EDGES,
    finds: /stored twice/,
  },
  {
    name: "forgets-edges",
    title: "an edge that comes back is told that the cluster has nothing of its file",
    scenario: named("edges-cut-off"),
    fault: FORGETS_EDGES,
    finds: /stored twice/,
  },
];
