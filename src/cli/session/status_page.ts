/** `--http`: the status of the senders over HTTP, while a command delivers. */

import { ListenError, OptionError } from "../../base/errors.ts";
import { isToken, TOKEN_RULE } from "../../base/subpath_option_table.ts";
import type { StatusServer } from "../../observe/http.ts";
import type { RouteLog } from "../terminal/output.ts";
import { asUsageError, type DeliveryCommandOptions } from "../arguments/options.ts";
import type { Needs } from "../../permissions/permissions.ts";
import { CommandError } from "../terminal/exit_code.ts";
import { readFor } from "../terminal/stdio.ts";
import type { Route } from "./route.ts";

export function statusPageNeeds(
  { http, httpTokenFile }: Pick<DeliveryCommandOptions, "http" | "httpTokenFile">,
): Required<Pick<Needs, "listens" | "files">> {
  return {
    listens: http === undefined ? [] : [{ transport: "tcp", ...http }],
    files: httpTokenFile === undefined ? [] : [httpTokenFile],
  };
}

/**
 * Looks at the token before anything is opened. Reads its file.
 *
 * @throws {UsageError} The file cannot be read.
 * @throws {OptionError} What it holds could be guessed.
 */
export function checkToken(
  { http, httpTokenFile }: Pick<DeliveryCommandOptions, "http" | "httpTokenFile">,
): void {
  // A pipe can be read once: what comes by it is looked at when the page is served.
  if (http === undefined || httpTokenFile === undefined || isPipe(httpTokenFile)) return;
  const token = tokenOf(httpTokenFile);
  if (token === undefined || isToken(token)) return;
  throw new OptionError("http.tokenFile", httpTokenFile, `names a token that ${TOKEN_RULE}`);
}

function isPipe(path: string): boolean {
  try {
    return !Deno.statSync(path).isFile;
  } catch {
    return false; // Who reads it says why that cannot be.
  }
}

/**
 * Serves the status page, where it was asked for.
 *
 * @param routes Their senders are closed if the page cannot be served.
 * @throws {UsageError} Where it may not listen, or no usable token.
 */
export async function openStatusPage(
  routes: readonly Route[],
  options: DeliveryCommandOptions,
  log: RouteLog,
): Promise<StatusPage | undefined> {
  const { http, httpTokenFile, httpPayloads = false, undeliverableLimitMs } = options;
  if (http === undefined) return undefined;
  try {
    // Loaded only when asked for: nobody else pays for it at the start.
    const { serveStatus } = await import("../../observe/http.ts");
    const settings = {
      ...http,
      token: tokenOf(httpTokenFile),
      showPayloads: httpPayloads,
      undeliverableLimitMs,
      logger: log,
    };
    const [first] = routes;
    let status: StatusServer;
    let show: StatusPage["show"];
    if (first?.plan.name === undefined && first?.sender !== undefined) {
      status = serveStatus(first.sender, settings);
      // It has been opened, and ends with its sender.
      show = () => {};
    } else {
      const named = routes.map(({ plan, state }) => [plan.name ?? "", state] as const);
      const ofRoutes = status = serveStatus(Object.fromEntries(named), settings);
      show = ({ plan, state }) => ofRoutes.show(plan.name ?? "", state);
    }
    log.info(`status page: ${status.url}`);
    return { show, [Symbol.asyncDispose]: () => status.close() };
  } catch (error) {
    await Promise.all(routes.map((route) => route.abandon()));
    throw listenError(error, "--http");
  }
}

/** A status page that is served until it is disposed of. */
export interface StatusPage extends AsyncDisposable {
  /** Shows how a route stands now. */
  show(route: Route): void;
}

/** Why nobody can connect there, for who gave the option that says where. */
export function listenError(error: unknown, option: "--http" | "--listen"): unknown {
  if (error instanceof Deno.errors.AddrInUse) {
    return new Deno.errors.AddrInUse(`${option}: ${error.message}`, { cause: error });
  }
  return error instanceof ListenError
    ? new CommandError(`${option}: ${error.message}`, { cause: error })
    : asUsageError(error);
}

/** @throws {UsageError} The file cannot be read. */
export function tokenOf(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  return new TextDecoder().decode(readFor(path, `--http-token-file: ${path}`)).trim();
}
