/**
 * What happens in a run: everything is drawn from the seed before it starts, so
 * that a scenario can be read and a part of it left out.
 *
 * @module
 */

import type { LocalFault } from "../src/base/ports.ts";
import type { SupervisorLimits } from "../src/delivery/supervisor.ts";
import { type AnswerPlan, answerPlanOf } from "../src/session/answers.ts";
import type { SessionPlan } from "../src/session/session.ts";
import type { PathOptions } from "./network.ts";
import { SMALLEST_DISK_BYTES } from "./disk_space.ts";
import { MIN_PACKET_BYTES, sessionMessage, tagOf } from "./packet.ts";
import { SeededRandom } from "./random.ts";
import type { TcpOptions } from "./segment.ts";

/** Packets enqueued at one moment. */
export interface Burst {
  readonly atMs: number;
  readonly sizes: readonly number[];
  /** In one transaction. */
  readonly together: boolean;
  /** How long they are worth sending. */
  readonly ttlMs: number;
}

/** Something that goes wrong, from `atMs` until `atMs + durationMs`. */
export type Fault = { readonly atMs: number; readonly durationMs: number } & FaultKind;

type FaultKind =
  | {
    readonly kind: "partition";
    readonly lanes: "both" | "to-server" | "to-client";
    readonly icmpCode: string | undefined;
  }
  | { readonly kind: "loss"; readonly loss: number }
  | { readonly kind: "slow-link"; readonly bandwidth: number }
  | { readonly kind: "local-fault"; readonly fault: LocalFault }
  | { readonly kind: "reset"; readonly toClient: boolean; readonly toServer: boolean }
  | { readonly kind: "server-close" }
  | { readonly kind: "server-half-close" }
  | { readonly kind: "server-shuts-down-and-closes" }
  | { readonly kind: "server-works-slowly"; readonly workMs: number }
  | { readonly kind: "server-floods"; readonly everyMs: number }
  | { readonly kind: "server-resets-after-reading" }
  | { readonly kind: "wire-fails"; readonly what: "read" | "write" }
  | { readonly kind: "look-up-slow"; readonly lookUpMs: number }
  | { readonly kind: "server-dies-quietly" }
  | { readonly kind: "kernel-hides-acks" }
  | { readonly kind: "server-stalls" }
  | { readonly kind: "server-reads-slowly"; readonly bytesPerMs: number }
  | { readonly kind: "server-accepts-late"; readonly delayMs: number }
  | { readonly kind: "server-crash" }
  | { readonly kind: "server-reboot" }
  | { readonly kind: "server-refuses" }
  | { readonly kind: "server-connects-anew" }
  | { readonly kind: "server-speaks"; readonly bytes: number }
  | { readonly kind: "sender-killed" }
  | { readonly kind: "sender-power-cut" }
  | { readonly kind: "sender-restart"; readonly deliverTimeoutMs: number }
  | { readonly kind: "sender-stopped" }
  | { readonly kind: "clock-jump"; readonly jumpMs: number }
  | { readonly kind: "wall-clock-jump"; readonly jumpMs: number }
  | { readonly kind: "commit-fails"; readonly why: "full" | "io" }
  | { readonly kind: "read-fails" }
  /** The medium changes a byte of a packet; `place`, in [0, 1), says which. */
  | { readonly kind: "stored-byte-changes"; readonly place: number }
  | { readonly kind: "server-refuses-session"; readonly how: "says-no" | "closes" }
  | { readonly kind: "server-answers-late"; readonly lateMs: number }
  | { readonly kind: "server-ignores-heartbeats" }
  | { readonly kind: "server-answers-no-packet" }
  | { readonly kind: "server-answers-early" }
  | { readonly kind: "server-answers-wrongly" }
  | { readonly kind: "server-refuses-packets" };

/** How the server's program answers packets. */
export interface ServerAnswers {
  /** Each answer names its packet; without, they come in order and each once. */
  readonly keyed: boolean;
  /** How long it thinks. */
  readonly answerMs: number;
  /** How much longer it may think about one than about another; with keys alone. */
  readonly reorderMs: number;
  /** The chance that it says the same again; with keys alone. */
  readonly twice: number;
  /** Byte by byte. */
  readonly inParts: boolean;
  /** Packets, by their tags, that it refuses each time. */
  readonly refusedTags: ReadonlySet<number>;
}

/** How the server's program takes part in a session. */
export interface ServerSession {
  /** Whether it answers a login. */
  readonly answersLogin: boolean;
  /** Whether it answers a heartbeat. */
  readonly answersHeartbeats: boolean;
  /** How long it thinks about an answer. */
  readonly answerMs: number;
  /** Byte by byte. */
  readonly inParts: boolean;
}

/** An operator puts dead letters back, or throws them away. */
export interface Visit {
  readonly atMs: number;
  readonly what: "requeue" | "remove";
}

/** A time in which an address answers nobody. */
export interface Outage {
  readonly fromMs: number;
  readonly toMs: number;
  /** It refuses, instead of saying nothing. */
  readonly refuses: boolean;
}

/** The server connects to the sender. */
export interface Listening {
  /** What a further connection does while one is in use. */
  readonly secondConnection: "replace" | "refuse";
  /** How soon the server's program looks after its connection again. */
  readonly pauseMs: number;
}

/** A whole run. */
export interface Scenario {
  readonly seed: number;
  /** Faults end here; afterwards everything has to arrive. */
  readonly durationMs: number;
  readonly limits: SupervisorLimits;
  readonly path: PathOptions;
  readonly clientTcp: TcpOptions;
  readonly serverTcp: TcpOptions;
  readonly queue: {
    readonly maxPackets: number;
    readonly overflow: "reject" | "wait";
    readonly commitIntervalMs: number;
  };
  /** The disk, for the whole run. */
  readonly diskBytes: number;
  /**
   * For each address of the server, the preferred one first, when nobody answers there;
   * one or more. All lead to the same server.
   */
  readonly addresses: readonly (readonly Outage[])[];
  /** Undefined: the sender connects. */
  readonly listening: Listening | undefined;
  readonly bursts: readonly Burst[];
  readonly faults: readonly Fault[];
  /** What the protocol wants beside packets; undefined: nothing. */
  readonly session: ServerSession | undefined;
  /** How packets are answered; undefined: not at all. */
  readonly answers: ServerAnswers | undefined;
  /** Somebody looks after the dead letters. */
  readonly visits: readonly Visit[];
  /** Packets, by their tags, that kill the server's program each time. */
  readonly poison: ReadonlySet<number>;
  /** When somebody calls `drained()`. */
  readonly drainedCalls: readonly number[];
  /** Timers are late by up to this. */
  readonly timerLateMs: number;
  /** The runtime reports finished calls late by up to this. */
  readonly ioLagMs: number;
  /** Chance of a write to take only a part although there is room. */
  readonly partialWrites: number;
}

/** Draws the run of a seed. */
export function drawScenario(seed: number): Scenario {
  const random = new SeededRandom(seed);
  const durationMs = random.chance(0.05) ? 3_600_000 : random.logBetween(3_000, 600_000);
  const nearMs = random.pick([0.05, 0.05, 0.5, 5, 20, 50, 150]);
  const delayMs = drawFarMs(new SeededRandom(seed ^ 0x5a7e)) ?? nearMs;
  const holdMs = random.pick([0, 100, 1000, 1000, 2000]);
  const maxInFlightBytes = random.pick([1024, 8192, 65_536, 262_144, 262_144]);
  const plain = drawBursts(random, durationMs);
  // Drawn apart, so that the worlds of earlier seeds stay what they were.
  const extras = drawExtras(new SeededRandom(seed ^ 0xe47a), plain, durationMs);
  const { bursts } = extras;
  const limits = { ...drawLimits(random, holdMs, maxInFlightBytes), ...extras.limits };
  const packets = bursts.reduce((sum, { sizes }) => sum + sizes.length, 0);
  const session = drawSession(new SeededRandom(seed ^ 0x5e55), durationMs, packets * delayMs);
  const answers = drawAnswers(
    new SeededRandom(seed ^ 0xa25e),
    durationMs,
    { packets, delayMs },
  );
  const reads = answers === undefined
    ? drawReads(new SeededRandom(seed ^ 0x4ead), durationMs, bursts)
    : undefined;
  const tellsReads = reads !== undefined;
  const listening = drawListening(new SeededRandom(seed ^ 0x1157), durationMs);
  return {
    seed,
    durationMs,
    limits: {
      ...limits,
      ...(session === undefined ? {} : { session: session.plan }),
      ...(answers === undefined ? {} : { answers: answers.plan, onPeerFin: "reconnect" as const }),
      ...reads?.limits,
    },
    // Half an answer to a login would stand among answers to packets.
    session: session && { ...session.server, inParts: session.server.inParts && !answers },
    answers: answers?.server,
    poison: extras.poison,
    visits: extras.visits,
    path: { delayMs, queueBytes: random.pick([20_000, 64_000, 300_000]) },
    clientTcp: {
      mssBytes: random.pick([536, 1448, 1448, 65_483]),
      sendBufferBytes: random.pick([2500, 8000, 80_000, 2_400_000]),
      receiveBufferBytes: 65_536,
      rtoMaxMs: random.pick([1000, 1000, 1000, 120_000]),
      userTimeoutMs: random.pick([0, 330_000]),
      keepAlive: random.chance(0.8) ? { idleMs: 5000, intervalMs: 1000, count: 3 } : undefined,
      tellsReads,
    },
    serverTcp: {
      mssBytes: 1448,
      sendBufferBytes: 80_000,
      receiveBufferBytes: random.pick([4096, 16_384, 65_536, 400_000]),
      rtoMaxMs: 2000,
      userTimeoutMs: 0,
      // Whoever connects finds out that the other side has gone, or would wait for ever.
      keepAlive: listening && { idleMs: 5000, intervalMs: 1000, count: 3 },
      tellsReads,
    },
    queue: {
      maxPackets: random.chance(0.2) ? random.int(1, 40) : 1_000_000,
      overflow: random.pick(["reject", "wait"]),
      commitIntervalMs: drawCommitIntervalMs(new SeededRandom(seed ^ 0xc0117)),
    },
    diskBytes: drawDiskBytes(new SeededRandom(seed ^ 0xd15c), bursts),
    addresses: listening ? [[]] : drawAddresses(new SeededRandom(seed ^ 0xfa11), durationMs),
    listening: listening?.how,
    bursts,
    faults: [
      ...drawFaults(random, durationMs, bursts),
      ...session?.faults ?? [],
      ...answers?.faults ?? [],
      ...reads?.faults ?? [],
      ...listening?.faults ?? [],
      ...drawChangedBytes(new SeededRandom(seed ^ 0xb17f), durationMs, bursts),
      ...drawPauses(new SeededRandom(seed ^ 0x57a7), durationMs, bursts, [
        ...(answers === undefined ? [] : [answers.plan.answerTimeoutMs]),
        ...(session?.server.answersHeartbeats
          ? [session.plan.heartbeat?.answerTimeoutMs ?? 2000]
          : []),
      ]),
    ].sort((a, b) => a.atMs - b.atMs),
    drainedCalls: random.chance(0.5) ? [random.between(0, durationMs)] : [],
    timerLateMs: random.pick([0, 0, 2, 8]),
    ioLagMs: random.pick([0, 0, 0, 1, 5]),
    partialWrites: random.pick([0, 0, 0.2, 0.7]),
  };
}

function drawCommitIntervalMs(random: SeededRandom): number {
  return random.chance(0.1) ? random.pick([1, 20, 250]) : 0;
}

/**
 * A path by satellite, or one with a queue in it that is always full: twice its round trip is more
 * than any limit on silence.
 */
function drawFarMs(random: SeededRandom): number | undefined {
  return random.chance(0.02) ? random.between(400, 1000) : undefined;
}

type ExtraLimits = Pick<
  SupervisorLimits,
  "maxPacketsPerSecond" | "maxBytesPerSecond" | "backlogPace" | "maxAttempts"
>;

/** What is off unless asked for: expiry, poisonous packets, a pace. */
function drawExtras(
  random: SeededRandom,
  plain: readonly Burst[],
  durationMs: number,
): Pick<Scenario, "bursts" | "poison" | "visits"> & { readonly limits: ExtraLimits } {
  const packets = plain.reduce((sum, { sizes }) => sum + sizes.length, 0);
  const bytes = plain.reduce((sum, { sizes }) => sum + sizes.reduce((all, size) => all + size), 0);
  const expires = random.chance(0.25);
  const bursts = !expires
    ? plain
    : plain.map((burst) =>
      random.chance(0.5) ? { ...burst, ttlMs: Math.ceil(random.logBetween(5, 60_000)) } : burst
    );
  const poison = new Set<number>();
  const poisonous = random.chance(0.2);
  if (poisonous) {
    for (let i = random.int(0, 3); i > 0; i--) poison.add(random.int(1, packets));
  }
  // So fast that everything could go out within a minute, twice.
  const rate = (all: number): number =>
    random.chance(0.5) ? Infinity : Math.max(1, all) / random.logBetween(0.05, 30);
  const paced = random.chance(0.2);
  const visits = Array.from({ length: expires || poisonous ? random.int(0, 3) : 0 }, () => ({
    atMs: random.between(0, durationMs),
    what: random.pick(["requeue", "remove"] as const),
  }));
  return {
    bursts,
    poison,
    visits,
    limits: {
      maxAttempts: poisonous ? random.int(2, 5) : Infinity,
      maxPacketsPerSecond: paced ? rate(packets) : Infinity,
      maxBytesPerSecond: paced ? rate(bytes) : Infinity,
      backlogPace: {
        maxPacketsPerSecond: paced ? rate(packets) : Infinity,
        maxBytesPerSecond: paced ? rate(bytes) : Infinity,
      },
    },
  };
}

/** A protocol that wants more than packets, and what its server does wrong. */
function drawSession(
  random: SeededRandom,
  durationMs: number,
  separateMs: number,
): {
  readonly plan: SessionPlan;
  readonly server: ServerSession;
  readonly faults: readonly Fault[];
} | undefined {
  if (!random.chance(0.35)) return undefined;
  const login = random.chance(0.8);
  const server = {
    answersLogin: login && random.chance(0.6),
    answersHeartbeats: random.chance(0.6),
    answerMs: random.chance(0.5) ? 0 : random.logBetween(1, 800),
    inParts: random.chance(0.3),
  };
  const refusedBackoffFirstMs = random.pick([200, 1000, 5000]);
  const yes = new TextEncoder().encode("+OK\n");
  const plan: SessionPlan = {
    open: !login ? undefined : [{
      send: sessionMessage("login"),
      expect: !server.answersLogin ? undefined : random.chance(0.5) ? yes : /\+OK\n/,
      refuse: server.answersLogin && random.chance(0.5) ? /-NO[^\n]*\n/ : undefined,
      framing: undefined,
      timeoutMs: Infinity,
    }],
    heartbeat: !random.chance(0.6) ? undefined : {
      send: sessionMessage("heartbeat"),
      idleMs: random.logBetween(50, 10_000),
      expect: server.answersHeartbeats ? /PONG\n/ : undefined,
      answerTimeoutMs: random.pick([2000, 5000]),
    },
    close: random.chance(0.5) ? sessionMessage("goodbye") : new Uint8Array(),
    // One packet a round trip: only where that is soon over.
    separate: random.chance(0.4) && separateMs < 20_000,
    timeoutMs: random.pick([3000, 10_000]),
    refusedBackoffFirstMs,
    refusedBackoffCapMs: refusedBackoffFirstMs * random.pick([1, 4]),
  };
  const span = (low: number, high: number): number => random.logBetween(low, high);
  const faults = Array.from({ length: random.int(0, 4) }, (): Fault => ({
    atMs: random.between(0, durationMs),
    ...random.pick<() => FaultKind & { readonly durationMs: number }>([
      () => ({
        kind: "server-refuses-session",
        how: random.pick(["says-no", "closes"]),
        durationMs: span(500, 30_000),
      }),
      () => ({
        kind: "server-answers-late",
        lateMs: span(100, 15_000),
        durationMs: span(500, 30_000),
      }),
      () => ({ kind: "server-ignores-heartbeats", durationMs: span(500, 30_000) }),
    ])(),
  }));
  // The server's program is looked at in the middle of something: a restart makes it log in.
  const restarts = faults.filter(() => random.chance(0.7)).map(({ atMs }): Fault => ({
    kind: random.pick(["server-crash", "server-close"]),
    atMs: Math.min(durationMs, atMs + random.between(0, 400)),
    durationMs: span(1, 1000),
  }));
  return { plan, server, faults: [...faults, ...restarts] };
}

/** A protocol that answers packets, and what its server does wrong. */
function drawAnswers(
  random: SeededRandom,
  durationMs: number,
  { packets, delayMs }: { readonly packets: number; readonly delayMs: number },
): {
  readonly plan: AnswerPlan;
  readonly server: ServerAnswers;
  readonly faults: readonly Fault[];
} | undefined {
  if (!random.chance(0.35)) return undefined;
  const keyed = random.chance(0.5);
  const answerMs = random.chance(0.5) ? 0 : random.logBetween(1, 200);
  // One packet a round trip: only where that is soon over.
  if (packets * (answerMs + 2 * delayMs + 10) > 60_000) return undefined;
  const retries = random.chance(0.25);
  const refusedTags = new Set<number>();
  if (!retries && random.chance(0.6)) {
    for (let i = random.int(1, 8); i > 0; i--) refusedTags.add(random.int(1, packets));
  }
  const retryFirstMs = random.pick([200, 1000, 5000]);
  const plan = answerPlanOf({
    framing: "lines",
    accepted: keyed ? /^OK (?<key>\d+)$/ : "OK",
    refused: keyed ? /^NO (?<key>\d+)$/ : /^NO/,
    ...(keyed ? { keyOf: (packet: Uint8Array) => String(tagOf(packet)) } : {}),
    maxUnanswered: random.pick([1, 1, 2, 8, 100]),
    answerTimeoutMs: random.pick([1000, 3000, 10_000]),
    onRefused: retries ? "retry" : "dead-letter",
    retryFirstMs,
    retryCapMs: retryFirstMs * random.pick([1, 4]),
  });
  const server = {
    keyed,
    answerMs,
    reorderMs: keyed && random.chance(0.5) ? random.logBetween(1, 300) : 0,
    twice: keyed && random.chance(0.4) ? 0.3 : 0,
    inParts: random.chance(0.3),
    refusedTags,
  };
  const span = (low: number, high: number): number => random.logBetween(low, high);
  const kinds: readonly (() => FaultKind & { readonly durationMs: number })[] = [
    () => ({ kind: "server-answers-no-packet", durationMs: span(500, 30_000) }),
    () => ({ kind: "server-answers-early", durationMs: span(500, 30_000) }),
    () => ({ kind: "server-answers-wrongly", durationMs: span(500, 30_000) }),
    () => ({
      kind: "server-answers-late",
      lateMs: span(100, 15_000),
      durationMs: span(500, 30_000),
    }),
    // What is refused for a while is tried again, or dead for good.
    () => ({ kind: "server-refuses-packets", durationMs: span(500, 30_000) }),
  ];
  const faults = Array.from({ length: random.int(0, 5) }, (): Fault => ({
    atMs: random.chance(0.5) ? random.between(0, 1000) : random.between(0, durationMs),
    ...random.pick(kinds)(),
  }));
  const restarts = faults.filter(() => random.chance(0.5)).map(({ atMs }): Fault => ({
    kind: random.pick(["server-crash", "server-close", "sender-killed"]),
    atMs: Math.min(durationMs, atMs + random.between(0, 400)),
    durationMs: span(1, 1000),
  }));
  return { plan, server, faults: [...faults, ...restarts] };
}

/** A wire that tells what the server's program has read, and a program that stops to read. */
function drawReads(
  random: SeededRandom,
  durationMs: number,
  bursts: readonly Burst[],
): { readonly limits: Partial<SupervisorLimits>; readonly faults: readonly Fault[] } | undefined {
  if (!random.chance(0.25)) return undefined;
  const faults = Array.from({ length: random.int(0, 2) }, (): Fault => ({
    kind: "server-stalls",
    atMs: Math.min(durationMs, random.pick(bursts).atMs + random.between(-50, 50)),
    durationMs: random.logBetween(1000, 60_000),
  }));
  const peerStallTimeoutMs = random.pick([3000, 10_000, 60_000]);
  return { limits: { reads: true, onPeerFin: "reconnect", peerStallTimeoutMs }, faults };
}

function drawLimits(
  random: SeededRandom,
  holdMs: number,
  maxInFlightBytes: number,
): Omit<SupervisorLimits, keyof ExtraLimits> {
  return {
    holdMs,
    maxInFlightBytes,
    stallTimeoutMs: random.pick([2000, 3000, 3000, 5000]),
    peerStallTimeoutMs: random.pick([10_000, 60_000, 300_000]),
    keepAlive: random.chance(0.8) ? { timeoutMs: 8000, probes: 2 } : undefined,
    connectTimeoutMs: 1000,
    lookUpTimeoutMs: 8000,
    slowConnectTimeoutMs: 5000,
    slowConnectEvery: 4,
    backoffFirstMs: random.pick([50, 100, 250]),
    backoffCapMs: random.pick([1000, 1000, 1000, 10_000, 30_000]),
    connect: random.pick(["on-demand", "on-demand", "always"]),
    onPeerFin: random.pick(["reconnect", "reconnect", "reconnect", "keep-sending", "confirm"]),
  };
}

function drawBursts(random: SeededRandom, durationMs: number): Burst[] {
  const bursts: Burst[] = [];
  const drawSize = random.pick<(() => number)>([
    () => random.int(MIN_PACKET_BYTES, 40),
    () => random.int(50, 300),
    () => Math.floor(random.logBetween(MIN_PACKET_BYTES, 5000)),
    () => Math.floor(random.logBetween(MIN_PACKET_BYTES, 100_000)),
  ]);
  let bytesLeft = random.logBetween(2_000, 600_000);
  const draw = (atMs: number, packets: number): void => {
    const sizes: number[] = [];
    for (let i = 0; i < packets && bytesLeft > 0; i++) {
      const size = drawSize();
      bytesLeft -= size;
      sizes.push(size);
    }
    if (sizes.length > 0) {
      bursts.push({ atMs, sizes, together: random.chance(0.3), ttlMs: Infinity });
    }
  };
  const spells = random.int(1, 4);
  for (let spell = 0; spell < spells; spell++) {
    const fromMs = spell === 0 ? random.between(0, 500) : random.between(0, durationMs);
    if (random.chance(0.3)) {
      draw(fromMs, Math.ceil(random.logBetween(1, 400)));
      continue;
    }
    const everyMs = random.logBetween(2, 2000);
    const count = Math.ceil(random.logBetween(2, 120));
    for (let i = 0; i < count; i++) {
      const atMs = fromMs + i * everyMs;
      if (atMs < durationMs) draw(atMs, random.chance(0.8) ? 1 : random.int(2, 10));
    }
  }
  // A packet larger than any window, and larger than one write.
  if (random.chance(0.1)) {
    const atMs = random.between(0, durationMs);
    bursts.push({ atMs, sizes: [300_000], together: false, ttlMs: Infinity });
  }
  return bursts.sort((a, b) => a.atMs - b.atMs);
}

const ICMP_CODES = ["EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED", "ENOPROTOOPT"] as const;
const LOCAL_FAULTS: readonly LocalFault[] = [
  { kind: "link-down", device: "eth0", words: "eth0 is down" },
  { kind: "no-route", device: undefined, words: "there is no route" },
];

function drawFaults(
  random: SeededRandom,
  durationMs: number,
  bursts: readonly Burst[],
): Fault[] {
  const faults: Fault[] = [];
  const count = random.chance(0.05) ? 0 : Math.ceil(random.logBetween(1, 12));
  for (let i = 0; i < count; i++) {
    // Most faults meet packets under way: nothing breaks in a quiet network.
    const burst = random.pick(bursts);
    const atMs = random.chance(0.75)
      ? burst.atMs + random.pick([0, 1, 50, 500, 3000]) * random.next()
      : random.between(0, durationMs);
    const fault = { atMs: Math.min(atMs, durationMs), ...drawFault(random) };
    faults.push(fault);
    // Misfortunes seldom come singly: the next one while this one lasts.
    if (random.chance(0.4)) {
      const withinMs = Math.min(fault.durationMs + 300, 1500) * random.next();
      faults.push({ ...drawFault(random), atMs: Math.min(fault.atMs + withinMs, durationMs) });
    }
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}

/** Mostly more than is needed; else all packets do not fit, but the largest does. */
/** Mostly one, which answers whenever the server does. */
function drawAddresses(random: SeededRandom, durationMs: number): Outage[][] {
  if (random.chance(0.85)) return [[]];
  return Array.from(
    { length: random.int(2, 3) },
    () =>
      Array.from({ length: random.int(0, 3) }, () => {
        const fromMs = random.between(0, durationMs);
        const lastsMs = random.logBetween(10, 20_000);
        return {
          fromMs,
          toMs: Math.min(durationMs, fromMs + lastsMs),
          refuses: random.chance(0.5),
        };
      }),
  );
}

/** Mostly the sender connects. */
function drawListening(
  random: SeededRandom,
  durationMs: number,
): { readonly how: Listening; readonly faults: readonly Fault[] } | undefined {
  if (!random.chance(0.12)) return undefined;
  const how = {
    secondConnection: random.pick(["replace", "replace", "refuse"] as const),
    pauseMs: random.logBetween(20, 2000),
  };
  const faults = Array.from({ length: random.int(0, 4) }, (): Fault => ({
    kind: random.pick(["server-connects-anew", "server-reboot", "server-crash"]),
    atMs: random.chance(0.5) ? random.between(0, 1000) : random.between(0, durationMs),
    durationMs: random.logBetween(1, 5000),
  }));
  return { how, faults };
}

function drawDiskBytes(random: SeededRandom, bursts: readonly Burst[]): number {
  if (random.chance(0.65)) return Infinity;
  const sizes = bursts.flatMap((burst) => burst.together ? [sumOf(burst.sizes)] : burst.sizes);
  const largestBytes = Math.max(...sizes);
  return SMALLEST_DISK_BYTES + 3 * largestBytes + random.logBetween(1, 200_000);
}

function sumOf(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Bytes that change on the medium, and often a new life of the sender, which has to read them. */
function drawChangedBytes(
  random: SeededRandom,
  durationMs: number,
  bursts: readonly Burst[],
): Fault[] {
  const faults: Fault[] = [];
  for (let left = random.chance(0.15) ? random.int(1, 3) : 0; left > 0; left--) {
    const burst = random.pick(bursts);
    const atMs = Math.min(durationMs, burst.atMs + random.pick([1, 50, 3000]) * random.next());
    const place = random.next();
    faults.push({ kind: "stored-byte-changes", place, atMs, durationMs: 0 });
    if (random.chance(0.6)) {
      const killedAtMs = Math.min(durationMs, atMs + 100 * random.next());
      faults.push({ kind: "sender-killed", atMs: killedAtMs, durationMs: random.between(1, 2000) });
    }
  }
  return faults;
}

/** A sender that stands still while a server that is slow to answer owes it something. */
function drawPauses(
  random: SeededRandom,
  durationMs: number,
  bursts: readonly Burst[],
  timeoutsMs: readonly number[],
): Fault[] {
  if (timeoutsMs.length === 0 || !random.chance(0.3)) return [];
  const timeoutMs = random.pick(timeoutsMs);
  const { atMs } = random.pick(bursts);
  return [
    {
      kind: "server-answers-late",
      lateMs: timeoutMs * random.between(0.5, 2),
      atMs,
      durationMs: 4 * timeoutMs,
    },
    {
      kind: "sender-stopped",
      // What is not over with the other faults would hold up what comes after them.
      atMs: random.between(atMs, Math.min(atMs + timeoutMs, durationMs)),
      durationMs: timeoutMs * random.between(0.5, 2),
    },
  ];
}

function drawFault(random: SeededRandom): FaultKind & { readonly durationMs: number } {
  const span = (low: number, high: number): number => random.logBetween(low, high);
  const draws: readonly (() => FaultKind & { readonly durationMs: number })[] = [
    () => ({
      kind: "partition",
      lanes: random.pick(["both", "to-server", "to-client"]),
      icmpCode: random.chance(0.3) ? random.pick(ICMP_CODES) : undefined,
      durationMs: random.chance(0.1) ? span(10_000, 120_000) : span(20, 15_000),
    }),
    () => ({ kind: "loss", loss: span(0.01, 0.3), durationMs: span(500, 60_000) }),
    () => ({ kind: "slow-link", bandwidth: span(4, 500), durationMs: span(500, 60_000) }),
    () => ({
      kind: "local-fault",
      fault: random.pick(LOCAL_FAULTS),
      durationMs: span(100, 10_000),
    }),
    () => ({
      kind: "reset",
      toClient: random.chance(0.8),
      toServer: random.chance(0.7),
      durationMs: 0,
    }),
    () => ({ kind: "server-close", durationMs: 0 }),
    () => ({ kind: "server-half-close", durationMs: 0 }),
    () => ({ kind: "server-shuts-down-and-closes", durationMs: 0 }),
    () => ({ kind: "server-works-slowly", workMs: span(1, 800), durationMs: span(500, 60_000) }),
    () => ({ kind: "server-floods", everyMs: span(1, 50), durationMs: span(500, 20_000) }),
    () => ({ kind: "server-resets-after-reading", durationMs: span(100, 40_000) }),
    () => ({ kind: "wire-fails", what: random.pick(["read", "write"]), durationMs: 0 }),
    () => ({ kind: "look-up-slow", lookUpMs: span(10, 12_000), durationMs: span(500, 30_000) }),
    () => ({ kind: "server-dies-quietly", durationMs: span(100, 20_000) }),
    () => ({ kind: "kernel-hides-acks", durationMs: span(500, 20_000) }),
    () => ({ kind: "server-stalls", durationMs: span(50, 60_000) }),
    () => ({
      kind: "server-reads-slowly",
      bytesPerMs: span(0.5, 100),
      durationMs: span(500, 30_000),
    }),
    () => ({
      kind: "server-accepts-late",
      delayMs: span(10, 20_000),
      durationMs: span(500, 20_000),
    }),
    () => ({ kind: "server-crash", durationMs: span(1, 10_000) }),
    () => ({ kind: "server-reboot", durationMs: span(100, 20_000) }),
    () => ({ kind: "server-refuses", durationMs: span(100, 10_000) }),
    () => ({ kind: "server-speaks", bytes: random.int(1, 20_000), durationMs: 0 }),
    () => ({ kind: "sender-killed", durationMs: span(1, 5_000) }),
    () => ({ kind: "sender-power-cut", durationMs: span(1, 20_000) }),
    () => ({
      kind: "sender-restart",
      deliverTimeoutMs: span(1, 5_000),
      durationMs: span(1, 1_000),
    }),
    () => ({ kind: "sender-stopped", durationMs: span(10, 30_000) }),
    () => ({ kind: "clock-jump", jumpMs: span(100, 100_000), durationMs: 0 }),
    () => ({
      kind: "wall-clock-jump",
      jumpMs: random.pick([-3_600_000, 3_600_000]),
      durationMs: 0,
    }),
    () => ({
      kind: "commit-fails",
      why: random.pick(["full", "io"]),
      durationMs: span(10, 10_000),
    }),
    () => ({ kind: "read-fails", durationMs: span(100, 10_000) }),
  ];
  return random.pick(draws)();
}
