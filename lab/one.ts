/**
 * Runs one scenario once and prints its figures as JSON: a process of its own,
 * so that scenarios that run side by side do not share an event loop.
 *
 * ```sh
 * deno run -A lab/one.ts SCENARIO DIRECTORY file|spool [SECONDS]
 * ```
 *
 * @module
 */

import { runScenario } from "./runner.ts";
import { lasting, type Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";

if (import.meta.main) {
  const [name = "", directory = "", place, seconds] = Deno.args;
  const known = SCENARIOS.find((scenario) => scenario.name === name);
  if (known === undefined) throw new RangeError(`there is no scenario ${name}`);
  const scenario: Scenario = { ...known, ...(place === "spool" ? { place } : {}) };
  const figures = await runScenario(
    seconds === undefined ? scenario : lasting(scenario, Number(seconds)),
    directory,
  );
  await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(figures)));
}
