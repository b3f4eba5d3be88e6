/** Serves over HTTP whoever may ask: what every status has in common. */

import { systemClock } from "../base/clock.ts";
import { harmlessLogger } from "../base/logger.ts";
import { STATUS_OPTIONS } from "../base/subpath_option_table.ts";
import { checkFields, type ResolvedOptions, resolveOptions } from "../base/options.ts";
import { formatHostPort } from "../base/remote.ts";
import { listenAt } from "../kernel/listen.ts";
import { Access, type Refusal, SECURITY_HEADERS } from "./access.ts";
import { type HttpAnswer, HttpListener, type HttpRequest } from "./listener.ts";
import type { StatusServer, StatusServerOptions } from "./status_server.ts";

/** How long answers that are under way may take once the server is closed. */
const CLOSE_GRACE_MS = 1000;

/** Those that no table has. */
const OTHERS: readonly (keyof StatusServerOptions)[] = [
  ...["hostname", "port", "token", "showPayloads", "logger", "clock"] as const,
];

/** @throws {OptionError} A value is out of range, or there is no such option. */
export function statusOptionsOf(
  options: StatusServerOptions,
): ResolvedOptions<typeof STATUS_OPTIONS> {
  checkFields("", options, [STATUS_OPTIONS, ...OTHERS]);
  return resolveOptions(STATUS_OPTIONS, options);
}

export interface Service {
  /** Whoever a request comes from. */
  answer(request: HttpRequest): Promise<HttpAnswer>;
  /** Ends what is under way. */
  stop(): void;
}

/**
 * Listens.
 *
 * @param begin Makes what answers, once the port is ours.
 * @throws {RangeError} The port is none, or the address is not a loopback one and there is no
 *   token.
 * @throws {Deno.errors.AddrInUse} Somebody listens there already.
 * @throws {ListenError} It cannot listen there: this host does not have the address, for example.
 * @throws {Deno.errors.NotCapable} The permission is missing.
 */
export function serve<S extends Service>(
  options: StatusServerOptions,
  begin: (access: Access) => S,
): { readonly server: StatusServer; readonly service: S } {
  const { hostname = "127.0.0.1", port = 9465, token, clock = systemClock } = options;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`port must be an integer from 0 to 65535, got ${port}`);
  }
  const access = new Access(hostname, token, clock);
  const listener = listenAt(
    formatHostPort(hostname, port),
    () => Deno.listen({ hostname, port }),
  );
  const { addr } = listener;
  access.port = addr.port;
  const service = begin(access);
  const http = new HttpListener({
    listener,
    clock: systemClock,
    logger: harmlessLogger(options.logger),
    answer: (request) => service.answer(request),
    failure: (status) => text(status, status === 400 ? "bad request" : "internal error"),
  });
  let closing: Promise<void> | undefined;
  const close = () => {
    service.stop();
    // A reader that takes nothing must not keep the program from ending.
    closing ??= http.close(CLOSE_GRACE_MS);
    return closing;
  };
  const url = `http://${formatHostPort(addr.hostname, addr.port)}/`;
  return { server: { url, addr, close, [Symbol.asyncDispose]: close }, service };
}

/** What only reads are answered with; `undefined`: it is one. */
export function methodRefusal({ method }: HttpRequest): HttpAnswer | undefined {
  return method === "GET" || method === "HEAD"
    ? undefined
    : text(405, "only GET is served here", { allow: "GET, HEAD" });
}

/** What somebody is answered who may not ask. */
export function refuse({ status, reason }: Refusal): HttpAnswer {
  return text(status, reason, {
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
    ...(status === 429 ? { "retry-after": "1" } : {}),
  });
}

export function text(
  status: number,
  words: string,
  headers: Record<string, string> = {},
): HttpAnswer {
  const body = words === "" ? "" : `${words}\n`;
  return respond(status, "text/plain; charset=utf-8", body, headers);
}

export function respond(
  status: number,
  type: string,
  body: HttpAnswer["body"],
  headers: Record<string, string> = {},
): HttpAnswer {
  return { status, headers: { ...SECURITY_HEADERS, "content-type": type, ...headers }, body };
}
