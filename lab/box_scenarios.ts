/**
 * What happens behind a middle box: one scenario for each box, fault and setting.
 * A name without a suffix has the setting that docs/OPERATIONS.md names against the
 * fault, and nothing may be lost; `-default` is what users get who set nothing.
 *
 * @module
 */

import type { BoxName } from "./middle_box.ts";
import { cut, type Expectation, heal, type Scenario, type Step, wait } from "./scenario.ts";

const TRAFFIC = { perSecond: 100, bytes: 100, packets: 600 };
/** Longer than any box here tries, shorter than the hold that is named against it. */
const AWAY_SECONDS = 5.5;
/** Longer than that hold. */
const AWAY_LONG_SECONDS = 14;

interface Fault {
  /** What the server does. */
  readonly title: string;
  readonly steps: readonly Step[];
}

const SILENCED = cut({ kind: "silent-drop", direction: "both" });
const KILLED: Step = { do: "kill-server" };
const BACK: Step = { do: "start-server" };

/** The box's connection is open, nobody says that the host is gone, and it comes back empty. */
const vanishes = (seconds: number): Fault => ({
  title: `host gone without a word for ${seconds} s`,
  steps: [SILENCED, { do: "reboot-server" }, wait(seconds), BACK, heal],
});

const FAULTS = {
  killed: { title: "killed -9, back 1.5 s later", steps: [KILLED, wait(1.5), BACK] },
  down: {
    title: `killed -9, refuses for ${AWAY_SECONDS} s`,
    steps: [KILLED, wait(AWAY_SECONDS), BACK],
  },
  hangs: {
    title: `killed -9, silent for ${AWAY_SECONDS} s`,
    steps: [KILLED, SILENCED, wait(AWAY_SECONDS), BACK, heal],
  },
  silent: {
    title: `lives, but silent for ${AWAY_SECONDS} s`,
    steps: [SILENCED, wait(AWAY_SECONDS), heal],
  },
  reboots: vanishes(AWAY_SECONDS),
  vanishes: vanishes(AWAY_LONG_SECONDS),
  "proxy-killed": {
    title: "the proxy killed -9, back 1.5 s later",
    steps: [{ do: "kill-box" }, wait(1.5), { do: "start-box" }],
  },
} satisfies { readonly [name: string]: Fault };
type FaultName = keyof typeof FAULTS;

interface Setting {
  /** Behind the scenario's name. */
  readonly suffix: string;
  readonly words: string;
  readonly flags: readonly string[];
  readonly serverCommands: readonly string[];
}

const DEFAULTS: Setting = {
  suffix: "-default",
  words: "defaults",
  flags: [],
  serverCommands: [],
};
const HOLD: Setting = { suffix: "", words: "hold 10 s", flags: ["--hold=10s"], serverCommands: [] };
const ANSWERS: Setting = {
  suffix: "",
  words: "answers awaited",
  flags: ["--response-timeout=1500ms"],
  serverCommands: ["reply on"],
};

const NOTHING_LOST: Expectation = {};
const MAY_LOSE: Expectation = { lost: "some" };

function scenario(
  name: string,
  box: BoxName,
  fault: FaultName,
  { suffix, words, flags, serverCommands }: Setting,
  expect: Expectation,
): Scenario {
  const { title, steps } = FAULTS[fault];
  return {
    name: `${name}-${fault}${suffix}`,
    title: `${title}; ${words}`,
    box,
    traffic: TRAFFIC,
    flags,
    serverCommands,
    steps: [wait(2), ...steps, wait(1)],
    expect,
  };
}

/** Each box with what OPERATIONS.md names against a host that is gone without a word. */
const BOXES: readonly { name: string; box: BoxName; named: BoxName; gone: Setting }[] = [
  { name: "haproxy", box: "haproxy", named: "haproxy", gone: ANSWERS },
  { name: "haproxy-check", box: "haproxy-check", named: "haproxy-shutdown", gone: HOLD },
  { name: "nginx", box: "nginx", named: "nginx", gone: ANSWERS },
  { name: "stunnel", box: "stunnel", named: "stunnel", gone: ANSWERS },
  { name: "socat", box: "socat", named: "socat", gone: ANSWERS },
];

/** haproxy goes on trying for seconds where the others close as soon as they are refused. */
function byDefault(box: BoxName, fault: FaultName): Expectation {
  if (fault === "silent") return NOTHING_LOST;
  const closesAtOnce = !box.startsWith("haproxy") && (fault === "killed" || fault === "down");
  return closesAtOnce ? NOTHING_LOST : MAY_LOSE;
}

/** Proxies that are asked: they connect on first, and say so before a packet is sent. */
const PROXIES: readonly BoxName[] = ["microsocks", "dante", "tinyproxy", "squid"];
/** Of these they say no, or nothing, or end what they have: the hold of 1 s is long enough. */
const TOLD = ["killed", "down", "hangs", "silent", "proxy-killed"] as const;

const QUICK = new Set([
  "haproxy-down",
  "haproxy-down-default",
  "socat-killed-default",
  "microsocks-down-default",
  "tinyproxy-killed-default",
]);

/** Every scenario with a box, in the order of the report. */
export const BOX_SCENARIOS: readonly Scenario[] = [
  ...BOXES.flatMap(({ name, box, named, gone }) => [
    ...(["killed", "down", "hangs", "silent"] as const).flatMap((fault) => [
      scenario(name, box, fault, DEFAULTS, byDefault(box, fault)),
      scenario(name, named, fault, HOLD, NOTHING_LOST),
    ]),
    scenario(name, box, "reboots", DEFAULTS, MAY_LOSE),
    scenario(name, named, "reboots", gone, NOTHING_LOST),
  ]),
  // As long as a hold is, an outage can be longer: it takes somebody who notices.
  scenario("nginx", "nginx", "vanishes", { ...HOLD, suffix: "-hold" }, MAY_LOSE),
  scenario("nginx", "nginx", "vanishes", ANSWERS, NOTHING_LOST),
  scenario("haproxy-check", "haproxy-shutdown", "vanishes", HOLD, NOTHING_LOST),
  scenario("nginx", "nginx", "hangs", { ...ANSWERS, suffix: "-answers" }, NOTHING_LOST),
  ...PROXIES.flatMap((name) => [
    ...TOLD.map((fault) => scenario(name, name, fault, DEFAULTS, NOTHING_LOST)),
    scenario(name, name, "reboots", DEFAULTS, MAY_LOSE),
    scenario(name, name, "reboots", ANSWERS, NOTHING_LOST),
    scenario(name, name, "vanishes", ANSWERS, NOTHING_LOST),
  ]),
].map((scenario) => QUICK.has(scenario.name) ? { ...scenario, quick: true } : scenario);
