/**
 * The table of the laboratory: one entry for each scenario. Its words are
 * explained in `scenario.ts`. "Row 8b" is a row of section 2 of kernel_facts;
 * F1 to F6d are the faults that other programs were measured with.
 *
 * @module
 */

import { BOX_SCENARIOS } from "./box_scenarios.ts";
import {
  cut,
  type Expectation,
  type Fault,
  heal,
  outage,
  repeat,
  type Scenario,
  server,
  wait,
} from "./scenario.ts";

/** stallTimeoutMs and a quarter of a second. */
const PATH_DEAD = { verdict: "path-dead", noticedWithinSeconds: 3.25 } satisfies Expectation;
const LOCAL_FAULT = { verdict: "local-fault", noticedWithinSeconds: 0.5 } satisfies Expectation;
const RESUMES = { deliveredWithinSeconds: 1.5 } satisfies Expectation;
const NO_ALARM = { connections: 1 } satisfies Expectation;

/** As in the peers' measurements: 20 seconds of 200 packets of 100 bytes a second. */
const PEERS_TRAFFIC = { perSecond: 200, bytes: 100, packets: 4000 };

/** As in the measurements of section 7 of kernel_facts. */
const SPARSE_TRAFFIC = { perSecond: 5, bytes: 100 };

/** Rows of section 2 of kernel_facts. */
const KERNEL_FACTS: readonly Scenario[] = [
  {
    name: "server-cable",
    title: "row 1: server's cable out, beyond a router",
    steps: outage({ kind: "server-cable-out" }, 8),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "server-cable-same-segment",
    title: "row 1b: server's cable out, same segment",
    topology: "same-segment",
    steps: outage({ kind: "server-cable-out" }, 8),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "own-link-down",
    title: "row 2: own link administratively down",
    steps: outage({ kind: "own-link-down" }, 8),
    expect: { ...LOCAL_FAULT, ...RESUMES },
    quick: true,
  },
  {
    name: "own-carrier-lost",
    title: "row 2b: own carrier lost",
    steps: outage({ kind: "own-carrier-lost" }, 8),
    expect: { ...LOCAL_FAULT, ...RESUMES },
  },
  {
    name: "route-deleted",
    title: "row 3: own route deleted",
    steps: outage({ kind: "route-deleted" }, 8),
    expect: { ...LOCAL_FAULT, ...RESUMES },
  },
  {
    name: "address-deleted",
    title: "row 3b: own address deleted",
    steps: outage({ kind: "address-deleted" }, 8),
    expect: { ...LOCAL_FAULT, ...RESUMES },
  },
  {
    name: "route-unreachable",
    title: "row 3c: own route says unreachable",
    steps: outage({ kind: "route-unreachable" }, 8),
    expect: { ...LOCAL_FAULT, ...RESUMES },
  },
  {
    name: "silent-drop",
    title: "row 4: silent drop, both ways",
    steps: outage({ kind: "silent-drop", direction: "both" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
    quick: true,
  },
  {
    name: "silent-drop-to-sender",
    title: "row 5: silent drop, server to sender",
    steps: outage({ kind: "silent-drop", direction: "to-client" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "silent-drop-to-server",
    title: "row 6: silent drop, sender to server",
    steps: outage({ kind: "silent-drop", direction: "to-server" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "silent-drop-100ms",
    title: "row 4 at RTT 100 ms",
    conditions: [{ kind: "delay", roundTripMs: 100 }],
    steps: outage({ kind: "silent-drop", direction: "both" }, 6),
    // What was under way when the path was cut still comes to its end: one RTT.
    expect: { verdict: "path-dead", noticedWithinSeconds: 3.35, ...RESUMES },
  },
  {
    name: "icmp-host-unreachable",
    title: "row 7a: router answers host unreachable",
    steps: outage({ kind: "rejected", by: "host-unreachable" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "icmp-net-unreachable",
    title: "row 7a: router answers net unreachable",
    steps: outage({ kind: "rejected", by: "net-unreachable" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "icmp-admin-prohibited",
    title: "row 7b: router answers admin-prohibited",
    steps: outage({ kind: "rejected", by: "admin-prohibited" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "icmp-port-unreachable",
    title: "row 7b: router answers port unreachable",
    steps: outage({ kind: "rejected", by: "port-unreachable" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "icmp-protocol-unreachable",
    title: "row 7b: router answers protocol unreachable",
    steps: outage({ kind: "rejected", by: "protocol-unreachable" }, 6),
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "router-reset",
    title: "row 7c: reset by a router",
    steps: outage({ kind: "rejected", by: "tcp-reset" }, 4),
    expect: { verdict: "reset", noticedWithinSeconds: 0.25, ...RESUMES },
    quick: true,
  },
  {
    name: "server-killed",
    title: "row 8a: server killed -9, all read",
    traffic: { perSecond: 20, bytes: 100 },
    steps: [wait(2), { do: "kill-server" }, wait(3), { do: "start-server" }, wait(2.5)],
    expect: { verdict: ["peer-closed", "reset"], noticedWithinSeconds: 0.25, ...RESUMES },
  },
  {
    name: "server-killed-unread",
    title: "row 8b: server killed -9, half a second unread",
    steps: [
      wait(2),
      server("stop-reading"),
      wait(0.5),
      server("await-unread"),
      { do: "kill-server" },
      wait(3),
      { do: "start-server" },
      wait(2.5),
    ],
    expect: { verdict: "reset", ...RESUMES },
    quick: true,
  },
  {
    name: "server-stopped-high-rate",
    title: "row 9a: server stopped 10 s at 1 MB/s",
    traffic: { perSecond: 1000, bytes: 1000 },
    steps: [
      wait(2),
      { do: "signal-server", signal: "SIGSTOP" },
      wait(10),
      { do: "signal-server", signal: "SIGCONT" },
      wait(2.5),
    ],
    expect: { verdict: "peer-stalled", ...RESUMES, ...NO_ALARM },
  },
  {
    name: "server-stopped-low-rate",
    title: "row 9b: server stopped 14 s at 500 B/s",
    traffic: { perSecond: 5, bytes: 100 },
    steps: [
      wait(2),
      { do: "signal-server", signal: "SIGSTOP" },
      wait(14),
      { do: "signal-server", signal: "SIGCONT" },
      wait(2.5),
    ],
    expect: { ...RESUMES, ...NO_ALARM },
  },
  {
    name: "server-reboot",
    title: "row 10: server reboots, back after 5 s",
    steps: [
      wait(2),
      cut({ kind: "server-power-off" }),
      wait(5),
      heal,
      { do: "start-server" },
      wait(2.5),
    ],
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "server-reboot-unread",
    title: "row 10, and half a second was unread",
    steps: [
      wait(2),
      server("stop-reading"),
      wait(0.5),
      cut({ kind: "server-power-off" }),
      wait(5),
      heal,
      { do: "start-server" },
      wait(2.5),
    ],
    expect: { verdict: "path-dead", ...RESUMES },
  },
  {
    name: "server-reboot-idle",
    title: "row 10b: server reboots while nothing is sent",
    steps: [
      wait(2),
      { do: "pause-traffic" },
      wait(2),
      { do: "reboot-server" },
      { do: "start-server" },
      // Keepalive: 10 s of idleness, and the new host resets what it does not know.
      { do: "wait-until-noticed", deadlineSeconds: 20 },
      { do: "start-traffic" },
      wait(2),
    ],
    expect: { verdict: "reset", noticedWithinSeconds: 11 },
  },
  {
    name: "server-closes",
    title: "row 11a: server closes, all read",
    traffic: { perSecond: 20, bytes: 100 },
    steps: [wait(2), server("close"), wait(3)],
    expect: { verdict: ["peer-closed", "reset"], noticedWithinSeconds: 0.25 },
    quick: true,
  },
  {
    name: "server-closes-confirm",
    title: "row 11a in a pause, --on-peer-fin confirm",
    traffic: { perSecond: 20, bytes: 100 },
    flags: ["--on-peer-fin=confirm"],
    // Half a hold: what the FIN finds has been read, and is still held.
    steps: [
      wait(2),
      { do: "pause-traffic" },
      wait(0.5),
      server("close"),
      wait(1),
      { do: "start-traffic" },
      wait(2),
    ],
    expect: { verdict: "peer-closed", noticedWithinSeconds: 0.25, duplicated: 0 },
  },
  {
    name: "server-closes-unread",
    title: "row 11b: server closes with unread data",
    steps: [wait(2), server("close-unread"), wait(3)],
    expect: { verdict: "reset", noticedWithinSeconds: 0.25 },
  },
  {
    name: "server-half-closes",
    title: "row 11c: server half-closes and reads on",
    steps: [wait(2), server("half-close"), wait(3)],
    expect: { verdict: "peer-closed", noticedWithinSeconds: 0.25 },
  },
  {
    name: "server-half-closes-kept",
    title: "row 11c with --on-peer-fin keep-sending",
    flags: ["--on-peer-fin=keep-sending"],
    steps: [wait(2), server("half-close"), wait(3)],
    expect: NO_ALARM,
  },
  {
    name: "syn-blackhole",
    title: "row 14: SYN blackhole for 8 s",
    steps: [cut({ kind: "syn-blackhole" }), { do: "start-traffic" }, wait(8), heal, wait(2.5)],
    expect: { verdict: "cannot-connect", ...RESUMES },
  },
  {
    name: "idle-path-dead",
    title: "last row: path dies while nothing is sent",
    steps: [
      wait(2),
      { do: "pause-traffic" },
      wait(2),
      cut({ kind: "silent-drop", direction: "both" }),
      { do: "wait-until-noticed", deadlineSeconds: 30 },
      { do: "start-traffic" },
      wait(2),
      heal,
      wait(2.5),
    ],
    // Keepalive: 10 s of idleness, then 3 probes 3 s apart.
    expect: { verdict: "path-dead", noticedWithinSeconds: 20, ...RESUMES },
  },
];

/** Rows 9, 13 and 15: hard conditions that are no fault. */
const STEADY: readonly Scenario[] = [
  {
    name: "slow-link-small-queue",
    title: "row 13: 256 kbit/s, queue 10 kB, always full",
    conditions: [{ kind: "slow-link", kbitPerSecond: 256, queueBytes: 10_000 }],
    traffic: { perSecond: 350, bytes: 100 },
    steps: [wait(25)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "slow-link-large-queue",
    title: "row 13: 256 kbit/s, queue 64 kB, always full",
    conditions: [{ kind: "slow-link", kbitPerSecond: 256, queueBytes: 64_000 }],
    traffic: { perSecond: 350, bytes: 100 },
    steps: [wait(25)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "very-slow-link",
    title: "row 13: 64 kbit/s, queue 64 kB, always full",
    conditions: [{ kind: "slow-link", kbitPerSecond: 64, queueBytes: 64_000 }],
    traffic: { perSecond: 90, bytes: 100 },
    steps: [wait(30)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "slow-reader",
    title: "row 9: server reads 10 kB/s of 20 kB/s",
    steps: [server("read-rate 10000"), wait(25), server("resume")],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "stopped-reader",
    title: "row 9: server reads nothing",
    traffic: { perSecond: 100, bytes: 1000 },
    // The limit for a peer that lives and does not read is 5 minutes by default.
    flags: ["--peer-stall-timeout=1h"],
    steps: [server("stop-reading"), wait(25), server("resume")],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "loss-5",
    title: "row 15: 5 % loss each way, 5 packets/s",
    conditions: [{ kind: "loss", percent: 5 }],
    traffic: SPARSE_TRAFFIC,
    steps: [wait(25)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "loss-10",
    title: "row 15: 10 % loss each way, 5 packets/s",
    conditions: [{ kind: "loss", percent: 10 }],
    traffic: SPARSE_TRAFFIC,
    steps: [wait(25)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "loss-5-busy",
    title: "row 15: 5 % loss each way, 200 packets/s",
    conditions: [{ kind: "loss", percent: 5 }],
    steps: [wait(25)],
    expect: NO_ALARM,
    steady: true,
  },
  {
    name: "loss-10-busy",
    title: "row 15: 10 % loss each way, 200 packets/s",
    conditions: [{ kind: "loss", percent: 10 }],
    steps: [wait(25)],
    // A full flight waits for one retransmission at a time, and in 3 s there are only four.
    expect: {},
    steady: true,
  },
  {
    name: "loss-20",
    title: "row 15: 20 % loss each way, 200 packets/s",
    conditions: [{ kind: "loss", percent: 20 }],
    steps: [wait(25)],
    expect: {},
    steady: true,
  },
];

/** How soon delivery resumes, by the length of the outage. */
const OUTAGES: readonly Scenario[] = [1, 3, 8, 15, 40].map((seconds): Scenario => ({
  name: `outage-${seconds}s`,
  title: `silent drop that heals after ${seconds} s`,
  steps: outage({ kind: "silent-drop", direction: "both" }, seconds),
  expect: seconds > 4 ? { ...PATH_DEAD, ...RESUMES } : RESUMES,
}));

/** F3: reads half of what is sent; 12.8 s make a backlog of 1280 packets, the oldest 6.4 s old. */
const SLOW_SERVER_KILLED = [
  server("read-rate 10000"),
  wait(12.8),
  { do: "kill-server" } as const,
  wait(1),
  { do: "start-server" } as const,
];

/** The faults that other programs were measured with. */
const PEERS: readonly Scenario[] = [
  {
    name: "F1",
    title: "cable out 5 s",
    traffic: PEERS_TRAFFIC,
    steps: [wait(5), cut({ kind: "server-cable-out" }), wait(5), heal],
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "F2",
    title: "cable out 40 s, server host rebooted meanwhile",
    traffic: { ...PEERS_TRAFFIC, packets: 11_200 },
    steps: [
      wait(5),
      cut({ kind: "server-cable-out" }),
      wait(20),
      { do: "reboot-server" },
      { do: "start-server" },
      wait(20),
      heal,
    ],
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "F3",
    title: "slow server killed -9 with 6.4 s unread, --hold 10s",
    traffic: PEERS_TRAFFIC,
    flags: ["--hold=10s"],
    steps: SLOW_SERVER_KILLED,
    expect: { verdict: "reset", ...RESUMES },
  },
  {
    name: "F3-default",
    title: "F3 with the default hold of 1 s",
    traffic: PEERS_TRAFFIC,
    steps: SLOW_SERVER_KILLED,
    expect: { lost: "some", verdict: "reset" },
  },
  {
    name: "F3-unix",
    title: "F3 over a Unix socket, with no option: what was read is known",
    traffic: PEERS_TRAFFIC,
    unixSocket: true,
    steps: SLOW_SERVER_KILLED,
    expect: { verdict: "reset", ...RESUMES },
  },
  {
    name: "F3-reader",
    title: "F3 over TLS with --confirm reader",
    traffic: PEERS_TRAFFIC,
    tls: true,
    flags: ["--confirm=reader"],
    steps: SLOW_SERVER_KILLED,
    expect: { verdict: "reset", ...RESUMES },
  },
  {
    name: "F3-tls",
    title: "F3 over TLS with the default hold of 1 s",
    traffic: PEERS_TRAFFIC,
    tls: true,
    steps: SLOW_SERVER_KILLED,
    expect: { lost: "some", verdict: "reset" },
  },
  {
    name: "F3f",
    title: "F3 with a server that keeps up",
    traffic: PEERS_TRAFFIC,
    steps: SLOW_SERVER_KILLED.slice(1),
    expect: { verdict: ["peer-closed", "reset"], ...RESUMES },
  },
  {
    name: "F4",
    title: "only the ACKs dropped for 10 s",
    traffic: PEERS_TRAFFIC,
    steps: [wait(5), cut({ kind: "acks-dropped" }), wait(10), heal],
    // Three connections in a row confirmed nothing: less is sent at once until a hold has passed.
    expect: { ...PATH_DEAD, deliveredWithinSeconds: 2.5 },
  },
  {
    name: "F5",
    title: "sender killed -9",
    traffic: PEERS_TRAFFIC,
    steps: [wait(10), { do: "kill-sender" }, { do: "start-sender" }],
    expect: {},
  },
  {
    name: "F5q",
    title: "sender killed -9 while the cable is out",
    traffic: PEERS_TRAFFIC,
    steps: [
      wait(5),
      cut({ kind: "server-cable-out" }),
      wait(4),
      { do: "kill-sender" },
      { do: "start-sender" },
      wait(4),
      heal,
    ],
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "F5p",
    title: "the same, and the sender's TCP state is gone",
    traffic: PEERS_TRAFFIC,
    steps: [
      wait(5),
      cut({ kind: "server-cable-out" }),
      wait(4),
      { do: "power-cut-sender" },
      { do: "start-sender" },
      wait(4),
      heal,
    ],
    expect: { ...PATH_DEAD, ...RESUMES },
  },
  {
    name: "F5b",
    title: "sender killed -9 while the server refuses",
    traffic: PEERS_TRAFFIC,
    steps: [
      wait(5),
      { do: "kill-server" },
      wait(3),
      { do: "kill-sender" },
      { do: "start-sender" },
      wait(3),
      { do: "start-server" },
    ],
    expect: { verdict: ["peer-closed", "reset"], ...RESUMES },
  },
  {
    name: "F6",
    title: "server closes every 2 s, RTT 0.1 ms",
    traffic: PEERS_TRAFFIC,
    steps: repeat(9, [wait(2), server("close")]),
    expect: { verdict: ["peer-closed", "reset"], noticedWithinSeconds: 0.25 },
  },
  {
    name: "F6-confirm",
    title: "F6 with --on-peer-fin confirm",
    traffic: PEERS_TRAFFIC,
    flags: ["--on-peer-fin=confirm"],
    steps: repeat(9, [wait(2), server("close")]),
    expect: { verdict: ["peer-closed", "reset"], noticedWithinSeconds: 0.25 },
  },
  {
    name: "F6d",
    title: "the same, RTT 40 ms",
    conditions: [{ kind: "delay", roundTripMs: 40 }],
    traffic: PEERS_TRAFFIC,
    steps: repeat(9, [wait(2), server("close")]),
    expect: { verdict: ["peer-closed", "reset"], noticedWithinSeconds: 0.25 },
  },
];

/** Beyond the router: the standby can still be reached. */
const DEAD_PATHS = [
  ["server-cable", { kind: "server-cable-out" }, PATH_DEAD],
  ["server-power", { kind: "server-power-off" }, PATH_DEAD],
  ["silent-drop", { kind: "silent-drop", direction: "both" }, PATH_DEAD],
  ["silent-drop-to-sender", { kind: "silent-drop", direction: "to-client" }, PATH_DEAD],
  ["silent-drop-to-server", { kind: "silent-drop", direction: "to-server" }, PATH_DEAD],
  ["icmp-host-unreachable", { kind: "rejected", by: "host-unreachable" }, PATH_DEAD],
  ["icmp-net-unreachable", { kind: "rejected", by: "net-unreachable" }, PATH_DEAD],
  ["icmp-admin-prohibited", { kind: "rejected", by: "admin-prohibited" }, {}],
  ["icmp-port-unreachable", { kind: "rejected", by: "port-unreachable" }, {}],
  ["router-reset", { kind: "rejected", by: "tcp-reset" }, { verdict: "reset" }],
] as const satisfies readonly (readonly [string, Fault, Expectation])[];

/** stallTimeoutMs and half a second: delivery goes on over the second remote. */
const GOES_ON = { deliveredWithinSeconds: 3.5 } satisfies Expectation;

/** Two remotes, and the path to the first stays dead. */
const FAILOVER: readonly Scenario[] = [
  ...DEAD_PATHS.map(([name, fault, expect]): Scenario => ({
    name: `failover-${name}`,
    title: `two remotes, the path to the first stays dead: ${name.replaceAll("-", " ")}`,
    standby: true,
    steps: [wait(2), cut(fault), wait(6)],
    expect: { ...expect, ...GOES_ON },
    ...(name === "silent-drop" ? { quick: true } : {}),
  })),
  {
    name: "failover-server-killed",
    title: "two remotes, the first server is killed -9 for good",
    standby: true,
    steps: [wait(2), { do: "kill-server" }, wait(4)],
    expect: { verdict: ["peer-closed", "reset"], deliveredWithinSeconds: 1.5 },
  },
  {
    name: "failover-comes-back",
    title: "two remotes, path to the first cut for 10 s, --return-after 2s",
    standby: true,
    flags: ["--return-after=2s"],
    steps: [wait(2), cut({ kind: "silent-drop", direction: "both" }), wait(10), heal, wait(8)],
    expect: { ...PATH_DEAD, ...GOES_ON, says: /is back, and preferred/ },
  },
];

/** Faults of the sender itself. */
const SENDER: readonly Scenario[] = [
  {
    name: "sender-killed-50",
    title: "sender killed -9 at 50 random instants",
    steps: [{ do: "kill-sender-often", times: 50, withinSeconds: 1.5 }],
    expect: {},
  },
  {
    name: "sender-stopped",
    title: "sender stopped 20 s and continued",
    steps: [
      wait(2),
      { do: "signal-sender", signal: "SIGSTOP" },
      wait(20),
      { do: "signal-sender", signal: "SIGCONT" },
      wait(2.5),
    ],
    expect: { ...RESUMES, ...NO_ALARM },
  },
  {
    name: "clock-moved",
    title: "sender's wall clock an hour ahead, then an hour back",
    needs: "libfaketime",
    // Lines whose times show the jumps.
    flags: ["--status-interval=1s"],
    steps: [
      wait(3),
      { do: "move-clock", seconds: 3600 },
      wait(4),
      { do: "move-clock", seconds: -3600 },
      wait(4),
      { do: "move-clock", seconds: 0 },
      wait(3),
    ],
    expect: { ...NO_ALARM, clockMoved: true },
  },
  {
    name: "disk-full",
    title: "disk full for 10 s, path cut meanwhile",
    diskBytes: 16 * 1024 * 1024,
    traffic: { perSecond: 200, bytes: 1000 },
    steps: [
      wait(2),
      // Else what leaves would make room for what comes.
      cut({ kind: "silent-drop", direction: "both" }),
      { do: "fill-disk" },
      wait(10),
      { do: "free-disk" },
      heal,
      wait(2.5),
    ],
    expect: { verdict: "path-dead", says: /the disk is full\. Nothing was stored/ },
  },
  {
    name: "two-senders",
    title: "a second sender on the same file",
    steps: [wait(1), { do: "start-second-sender" }, wait(1)],
    expect: { ...NO_ALARM, secondSenderSays: /already has a sender \(process \d+\)/ },
    quick: true,
  },
  {
    name: "four-enqueuers",
    title: "4 other processes enqueue meanwhile, path cut",
    steps: [
      { do: "start-enqueuers", processes: 4, packets: 1000, perSecond: 100 },
      ...outage({ kind: "silent-drop", direction: "both" }, 5),
    ],
    expect: { verdict: "path-dead" },
  },
];

/** Every scenario, in the order of the report. */
export const SCENARIOS: readonly Scenario[] = [
  ...KERNEL_FACTS,
  ...STEADY,
  ...OUTAGES,
  ...PEERS,
  ...FAILOVER,
  ...SENDER,
  ...BOX_SCENARIOS,
];
