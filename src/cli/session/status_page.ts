/**
 * `--http`: the status of the senders over HTTP, while a command delivers.
 *
 * @module
 */

import type { StatusServer } from "../../observe/http.ts";
import type { Sender } from "../../sender/sender.ts";
import type { RouteLog } from "../terminal/output.ts";
import { asUsageError, type DeliveryCommandOptions } from "../arguments/options.ts";
import type { Needs } from "../../permissions/permissions.ts";
import { UsageError } from "../terminal/exit_code.ts";

/**
 * What the status page needs permissions for.
 *
 * @param options The command's options.
 */
export function statusPageNeeds(
  { http, httpTokenFile }: Pick<DeliveryCommandOptions, "http" | "httpTokenFile">,
): Required<Pick<Needs, "listens" | "files">> {
  return {
    listens: http === undefined ? [] : [{ transport: "tcp", ...http }],
    files: httpTokenFile === undefined ? [] : [httpTokenFile],
  };
}

/**
 * Serves the status page, where it was asked for.
 *
 * @param routes Whose status; closed if the page cannot be served.
 * @param failures Why the senders of other routes could not be opened, by their names.
 * @param options The command's options.
 * @param log Told where the page is.
 * @throws {UsageError} Where it may not listen, or no usable token.
 */
export async function openStatusPage(
  routes: readonly {
    readonly plan: { readonly name?: string | undefined };
    readonly sender: Sender;
  }[],
  failures: ReadonlyMap<string, string>,
  options: DeliveryCommandOptions,
  log: RouteLog,
): Promise<StatusServer | undefined> {
  const { http, httpTokenFile, httpPayloads = false, undeliverableLimitMs } = options;
  if (http === undefined) return undefined;
  try {
    // Loaded only when asked for: nobody else pays for it at the start.
    const { serveStatus } = await import("../../observe/http.ts");
    const [first] = routes;
    const status = serveStatus(
      first?.plan.name === undefined && first !== undefined ? first.sender : {
        ...Object.fromEntries(routes.map(({ plan, sender }) => [plan.name ?? "", sender])),
        ...Object.fromEntries([...failures].map(([name, words]) => [name, new Error(words)])),
      },
      {
        ...http,
        token: await tokenOf(httpTokenFile),
        showPayloads: httpPayloads,
        undeliverableLimitMs,
        logger: log,
      },
    );
    log.info(`status page: ${status.url}`);
    return status;
  } catch (error) {
    await Promise.all(routes.map(({ sender }) => sender.close({ deliverTimeoutMs: 0 })));
    throw listenError(error, http);
  }
}

/** Why a status cannot be served, for who gave `--http`. */
export function listenError(
  error: unknown,
  { hostname, port }: { readonly hostname: string; readonly port: number },
): unknown {
  return error instanceof Deno.errors.AddrInUse
    ? new Deno.errors.AddrInUse(`--http: ${hostname}:${port} is in use already`)
    : asUsageError(error);
}

/**
 * The token in a file.
 *
 * @throws {UsageError} There is none.
 */
export async function tokenOf(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UsageError(`--http-token-file: there is no file ${path}`);
  }
}
