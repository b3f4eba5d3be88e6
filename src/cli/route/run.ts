/** What `sendq run` does with a route file: checks it, runs it, reads it anew. */

import type { Command } from "commander";
import { missingFlags, neededFlags } from "../terminal/flags.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import type { Route } from "../session/route.ts";
import { runSessions } from "../session/session.ts";
import { CommandError, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { printable, withoutPasswords } from "../terminal/figures.ts";
import { type LogConsole, printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { loadRouteFile } from "./load.ts";
import {
  type PlannedRoute,
  planRoute,
  planRoutes,
  processOptions,
  queueProblems,
  summaryOf,
  tlsProblems,
} from "./plan.ts";
import { reloadRoutes } from "./reload.ts";
import { placed, type Problem, type RouteFile } from "./route_file.ts";

/**
 * Says what is wrong with a file, and which permissions it needs.
 *
 * @param given The command with its options, which win over the file's.
 */
export async function checkFile(path: string, given: Command, io: Stdio): Promise<ExitCode> {
  const file = await loadRouteFile(path);
  const { routes, needs, ...planned } = planRoutes(file, given, io);
  const problems = [
    ...planned.problems,
    ...queueProblems(routes),
    ...await tlsProblems(routes),
  ];
  for (const line of linesOf(file, problems)) await printLine(io, line);
  if (problems.length > 0) return ExitCode.USAGE;
  for (const route of routes) await printLine(io, printable(summaryOf(route)));
  await printLine(io, `deno run needs: ${neededFlags(needs).join(" ")}`);
  const missing = missingFlags(needs);
  if (missing.length === 0) return ExitCode.DONE;
  await printLine(io, `missing here, and not looked at: ${missing.join(" ")}`);
  return ExitCode.NOT_PERMITTED;
}

/**
 * Runs the routes of a file.
 *
 * @param given The command with its options, which win over the file's.
 * @throws {UsageError} The file has mistakes; nothing was started.
 * @throws {Deno.errors.NotCapable} Permissions are missing; the message has every flag.
 */
export async function runFile(path: string, given: Command, io: Stdio): Promise<ExitCode> {
  const file = await loadRouteFile(path);
  const { routes, needs, ...planned } = planRoutes(file, given, io);
  const problems = [...planned.problems, ...queueProblems(routes)];
  if (problems.length > 0) {
    const lines = [`${path} has mistakes, nothing was started:`, ...linesOf(file, problems)];
    throw new UsageError(lines.join("\n"));
  }
  checkPermissions(needs);
  let running: readonly PlannedRoute[] = routes;
  return await runSessions({
    plans: routes.map(({ plan }) => plan),
    options: processOptions(routes),
    io,
    reload: async (routes, log) => {
      running = await reload(path, given, io, running, routes, log);
    },
  });
}

async function reload(
  path: string,
  given: Command,
  io: Stdio,
  before: readonly PlannedRoute[],
  running: readonly Route[],
  log: LogConsole,
): Promise<readonly PlannedRoute[]> {
  let file: RouteFile;
  try {
    file = await loadRouteFile(path);
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof CommandError)) throw error;
    log.error(`the route file cannot be read anew, nothing was changed: ${error.message}`);
    return before;
  }
  const { problems } = planRoutes(file, given, io);
  if (problems.length > 0) {
    log.error("the route file was read anew and has mistakes: nothing was changed");
    for (const line of linesOf(file, problems)) log.error(line);
    return before;
  }
  const after = reloadRoutes({
    before,
    file,
    running,
    plan: (route, problems) => planRoute(route, given, io, problems),
    log,
  });
  if ("missing" in after) {
    log.error(
      "the route file was read anew and needs more permissions, nothing was changed; add to " +
        `"deno run" what is missing: ${after.missing.join(" ")}`,
    );
    return before;
  }
  return after;
}

function linesOf(file: RouteFile, problems: readonly Problem[]): string[] {
  return problems.map((problem) => printable(withoutPasswords(placed(file, problem))));
}
