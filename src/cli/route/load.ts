/** What the command line does not give, a route file does. */

import type { Command } from "commander";
import { checkPermissions } from "../../permissions/permissions.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { unreadable } from "../terminal/stdio.ts";
import {
  placed,
  type ReadRoute,
  readRouteFile,
  type RouteFile,
  type Values,
} from "./route_file.ts";

/** Commands that deliver take all of a route; those that store, what they store by. */
const STORING = ["queue", "input", "output", "oversize"] as const;
const QUEUE_BOUNDS = "queueOptions.";

/**
 * Reads a route file.
 *
 * @throws {UsageError} There is none.
 * @throws {Deno.errors.NotCapable} It may not be read.
 */
export async function loadRouteFile(path: string): Promise<RouteFile> {
  // Before commander looks at it.
  if (path === "") throw new UsageError("--config needs a path, and was given an empty text");
  checkPermissions({ files: [path] });
  let text: string;
  try {
    const bytes = await Deno.readFile(path);
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(`${path} is no UTF-8`);
    if (error instanceof Deno.errors.NotFound) throw new UsageError(`there is no file ${path}`);
    throw unreadable(error, path, path);
  }
  return readRouteFile(path, text);
}

/**
 * Fills a command in from the file that `--config` names, before it is parsed.
 *
 * @param name The route, where there are several.
 * @throws {UsageError} The file has mistakes, or no such route.
 */
export async function configure(
  command: Command,
  path: string,
  name: string | undefined,
): Promise<void> {
  const file = await loadRouteFile(path);
  const [problem, ...others] = file.problems;
  if (problem !== undefined) {
    const more = others.length === 0
      ? ""
      : ` (and ${others.length} more: sendq run --check ${path})`;
    throw new UsageError(placed(file, problem) + more);
  }
  const { values } = pickRoute(file, name);
  const scoped = scopeOf(command.name(), values);
  for (const [to, value] of scoped) command.setOptionValueWithSource(to, value, "config");
}

function pickRoute(file: RouteFile, name: string | undefined): ReadRoute {
  const names = file.routes.map((route) => route.name).filter((known) => known !== undefined);
  if (name === undefined) {
    const [only, ...others] = file.routes;
    if (only !== undefined && others.length === 0) return only;
    throw new UsageError(`${file.path} has several routes: add --route ${names.join(" or ")}`);
  }
  const route = file.routes.find((route) => route.name === name);
  if (route !== undefined) return route;
  throw new UsageError(
    names.length === 0
      ? `${file.path} has one route without a name: leave --route out`
      : `${file.path} has no route "${name}"; it has ${names.join(", ")}`,
  );
}

function scopeOf(command: string, values: Values): Map<string, unknown> {
  const all = new Map([...values].map(([to, { value }]) => [to, value]));
  const some = (names: readonly string[]) =>
    new Map([...all].filter(([to]) =>
      names.includes(to) ||
      (names === STORING && values.get(to)?.path.includes(QUEUE_BOUNDS) === true)
    ));
  switch (command) {
    case "send":
    case "relay":
      return all;
    case "enqueue":
    case "import": {
      const storing = some(STORING);
      const output = all.get("output") ?? all.get("input");
      return output === undefined ? storing : storing.set("output", output);
    }
    case "probe":
      return some(["remote", "libc"]);
    default:
      return some(["queue"]);
  }
}
