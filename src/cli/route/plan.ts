/** What a route file asks for, as plans that can run; and everything that is wrong with it. */

import type { Command } from "commander";
import { OptionError } from "../../base/errors.ts";
import { formatRemote, type Remote } from "../../base/remote.ts";
import { formatProxy, proxyOf } from "../../base/via.ts";
import type { Needs } from "../../permissions/permissions.ts";
import { missingFlags } from "../terminal/flags.ts";
import { type QueueOptions, resolveQueueOptions } from "../../queue/options.ts";
import { isSpoolAddress } from "../../spool/address.ts";
import { limitsOf } from "../../sender/options.ts";
import {
  checkPageAddress,
  type DeliveryCommandOptions,
  queueOptionsOf,
  tlsOptionsOf,
} from "../arguments/options.ts";
import { wayOf } from "../arguments/proxy.ts";
import { fileOf, nameOfQueue } from "../arguments/queue_place.ts";
import { planRelay, relayCommand, type RelayCommandOptions } from "../commands/relay.ts";
import { planSend, sendCommand, type SendOptions } from "../commands/send.ts";
import { senderOptionsOf, senderOptionsWithoutFiles } from "../session/sender_options.ts";
import type { Planned } from "../session/plan.ts";
import { checkToken } from "../session/status_page.ts";
import { CommandError, UsageError } from "../terminal/exit_code.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { pathOf, type Problem, type ReadRoute, type RouteFile, type Values } from "./route_file.ts";

export interface PlannedRoute extends Planned {
  readonly values: Values;
}

export interface PlannedFile {
  /** The routes without a mistake. */
  readonly routes: readonly PlannedRoute[];
  /** All mistakes, in the order of the file. */
  readonly problems: readonly Problem[];
  readonly needs: Needs;
}

/**
 * Makes plans of routes. Opens nothing but the files that they name, where that is granted.
 *
 * @param given The options of the command line, which win over the file's.
 */
export function planRoutes(file: RouteFile, given: Command, io: Stdio): PlannedFile {
  const problems = [...file.problems];
  const routes: PlannedRoute[] = [];
  for (const route of file.routes) {
    const planned = planRoute(route, given, io, problems);
    if (planned !== undefined) routes.push(planned);
  }
  problems.push(...spoolProblems(routes));
  return {
    routes,
    // What is for the whole process is found in each route.
    problems: unique(problems).toSorted((a, b) => a.offset - b.offset),
    needs: allNeeds(file.path, routes),
  };
}

/** @param problems Gets what is wrong; then there is no plan. */
export function planRoute(
  { name, values, offset }: ReadRoute,
  given: Command,
  io: Stdio,
  problems: Problem[],
): PlannedRoute | undefined {
  // What these two are missing is among the problems already.
  if (!values.has("queue") || !values.has("remote")) return undefined;
  const isRelay = values.has("listen");
  const command = isRelay ? relayCommand(() => {}, io) : sendCommand(() => {}, io);
  for (const [to, { value }] of values) command.setOptionValueWithSource(to, value, "config");
  for (const option of given.options) {
    const to = option.attributeName();
    if (given.getOptionValueSource(to) !== "cli") continue;
    command.setOptionValueWithSource(to, given.getOptionValue(to), "cli");
  }
  // Its packets come by other processes, which know the framing from the same file.
  if (!isRelay) {
    command.setOptionValueWithSource("input", "none", "config");
    command.setOptionValueWithSource("output", undefined, "config");
  }
  let isSound = true;
  const attempt = <T>(what: () => T): T | undefined => {
    try {
      return what();
    } catch (error) {
      isSound = false;
      problems.push(problemOf(error, values, offset, command));
      return undefined;
    }
  };
  const planned = attempt(() =>
    isRelay
      ? planRelay(command.opts<RelayCommandOptions>(), io)
      : planSend(command.opts<SendOptions & { readonly remote: Remote }>(), io)
  );
  if (planned === undefined) return undefined;
  const { plan } = planned;
  attempt(() => resolveQueueOptions(queueOptionsOf(plan.options)));
  attempt(() => checkPageAddress(plan.options));
  for (const path of planned.needs.files ?? []) {
    const words = unreadableWords(path);
    if (words === undefined) continue;
    isSound = false;
    problems.push({ offset: at(path, values) ?? offset, words });
  }
  attempt(() => limitsOf(senderOptionsWithoutFiles(plan)));
  // The files of a session and of a proxy are a part of it.
  if (missingFlags({ files: planned.needs.files ?? [] }).length === 0 && isSound) {
    attempt(() => limitsOf(senderOptionsOf(plan)));
    attempt(() => checkToken(plan.options));
  }
  if (!isSound) return undefined;
  return { plan: { ...plan, name }, needs: planned.needs, values };
}

/** A mistake that lies in how values stand to each other, where it can be found. */
function problemOf(
  error: unknown,
  values: Values,
  offset: number,
  command?: Command,
): Problem {
  if (error instanceof OptionError) {
    const named = values.get(error.option) ??
      [...values.values()].find(({ path }) => path === error.option);
    return { offset: named?.offset ?? offset, words: error.message };
  }
  if (error instanceof UsageError) return inFile(error.message, values, offset, command);
  const known = [CommandError, RangeError, TypeError];
  if (error instanceof Error && known.some((kind) => error instanceof kind)) {
    return { offset, words: error.message };
  }
  throw error;
}

/** What a command says of its flags, said of what a route file has for them. */
function inFile(
  message: string,
  values: Values,
  offset: number,
  command?: Command,
): Problem {
  const names: string[] = [];
  const words = message.replaceAll(/--[a-z]+(-[a-z]+)*/g, (flag) => {
    const name = command?.options.find(({ long }) => long === flag)?.attributeName() ?? "";
    names.push(name);
    return pathOf(name) ?? flag;
  });
  const placed = names.map((name) => values.get(name)).find((value) => value !== undefined);
  return { offset: placed?.offset ?? offset, words };
}

/** What is wrong with a file, in words; `undefined`: nothing, or nobody may look. */
function unreadableWords(path: string): string | undefined {
  if (missingFlags({ files: [path] }).length > 0) return undefined;
  try {
    using file = Deno.openSync(path);
    if (file.statSync().isDirectory) throw new Error("it is a directory");
    return undefined;
  } catch (error) {
    return `the file ${path} cannot be read: ${wordsFor(error)}`;
  }
}

/** Where a file is named: in a value of its own, or inside a session's. */
function at(path: string, values: Values): number | undefined {
  const text = JSON.stringify(path);
  for (const { value, offset } of values.values()) {
    if (value === path || JSON.stringify(value)?.includes(`"file":${text}`)) return offset;
  }
  return undefined;
}

/** What all queues of a spool share, two routes must not set in two ways. */
function spoolProblems(routes: readonly PlannedRoute[]): Problem[] {
  const problems: Problem[] = [];
  const first = new Map<string, Pick<QueueOptions, "durability" | "syncIn">>();
  for (const { plan: { options }, values } of routes) {
    const file = isSpoolAddress(options.queue) ? fileOf(options.queue) : undefined;
    if (file === undefined) continue;
    const { durability, syncIn } = resolveQueueOptions(queueOptionsOf(options));
    const known = first.get(file) ?? { durability, syncIn };
    first.set(file, known);
    for (
      const [name, differs] of [
        ["durability", durability !== known.durability],
        ["syncIn", syncIn !== known.syncIn],
      ] as const
    ) {
      if (!differs) continue;
      const { offset } = values.get(name) ?? values.get("queue") ?? { offset: 0 };
      problems.push({
        offset,
        words: `${name} must be the same in all routes of the spool ${file}`,
      });
    }
  }
  return problems;
}

/**
 * What is wrong with the routes' queues: one that is there has to be one that can be written; one
 * that is not is made. Only for a process that has none of them open: closing a file drops the
 * locks that SQLite has on it in the same process (sqlite.org/howtocorrupt.html, 2.2), and
 * whoever closes the queue elsewhere then removes the log that is in use here.
 */
export function queueProblems(routes: readonly PlannedRoute[]): Problem[] {
  return routes.flatMap(({ plan, values }) => {
    const path = fileOf(plan.options.queue);
    if (path === undefined || missingFlags({ queues: [path] }).length > 0) return [];
    try {
      Deno.openSync(path, { read: true, write: true }).close();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      const words = `the queue ${path} cannot be used: ${wordsFor(error)}`;
      return [{ offset: values.get("queue")?.offset ?? 0, words }];
    }
    return [];
  });
}

/**
 * What is wrong with options, certificates and keys of TLS, where their files may be read. Only
 * for whoever asks: a route that is started says it by itself, and leaves the others to go on.
 */
export async function tlsProblems(routes: readonly PlannedRoute[]): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const { plan, needs, values } of routes) {
    const { tls } = tlsOptionsOf(plan.options);
    if (tls === undefined || missingFlags({ files: needs.files ?? [] }).length > 0) continue;
    const { assertUsableBy, checkTlsOptions } = await import("../../tls/certificates.ts");
    try {
      assertUsableBy(limitsOf(senderOptionsOf(plan)).reads, checkTlsOptions(await tls()));
    } catch (error) {
      problems.push(problemOf(error, values, values.get("remote")?.offset ?? 0));
    }
  }
  return problems;
}

function wordsFor(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is none";
  return error instanceof Error ? error.message : String(error);
}

function allNeeds(path: string, routes: readonly PlannedRoute[]): Needs {
  const libc = routes.find(({ needs }) => needs.libc !== undefined)?.needs.libc;
  const libssl = routes.map(({ needs }) => needs.libssl ?? false);
  const all = <T>(of: (needs: Needs) => readonly T[] | undefined): T[] =>
    unique(routes.flatMap(({ needs }) => [...of(needs) ?? []]));
  return {
    remotes: all(({ remotes }) => remotes),
    sources: all(({ sources }) => sources),
    listens: all(({ listens }) => listens),
    files: [path, ...all(({ files }) => files)],
    queues: all(({ queues }) => queues),
    reports: all(({ reports }) => reports),
    databases: all(({ databases }) => databases),
    kernel: true,
    libc,
    libssl: libssl.find((path) => typeof path === "string") ?? libssl.includes(true),
  };
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
}

export function summaryOf({ plan, values }: PlannedRoute): string {
  const from = values.has("listen") ? "clients" : "what is enqueued";
  const name = plan.name === undefined ? "" : `${plan.name}: `;
  const { via } = wayOf(plan.options);
  const proxy = via === undefined ? "" : ` over the proxy ${formatProxy(proxyOf(via))}`;
  return `${name}${from} through ${nameOfQueue(plan.options.queue)} to ${
    formatRemote(plan.remote)
  }${proxy}`;
}

/** The options that the process has once. */
export function processOptions(routes: readonly PlannedRoute[]): DeliveryCommandOptions {
  const [first] = routes;
  if (first === undefined) throw new UsageError("there is no route");
  return first.plan.options;
}
