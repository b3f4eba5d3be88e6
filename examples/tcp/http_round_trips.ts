/**
 * An HTTP server that logs how long a round trip to each client takes, as its kernel has
 * measured it: no client has to do anything for it. Behind a proxy it is the way to the proxy.
 *
 * ```sh
 * deno run --allow-net=0.0.0.0:8000 --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   examples/tcp/http_round_trips.ts 0.0.0.0 8000
 * ```
 */
// deno-lint-ignore-file no-console -- an example prints
import { ClosedError, tcpInfo } from "../../src/tcp/tcp.ts"; // elsewhere: "jsr:@sendq/sendq/tcp"

const [hostname = "127.0.0.1", port = "8000"] = Deno.args;
const onListen = () => console.log(`listening on ${hostname}:${port}`);
const options = { hostname, port: Number(port), onListen };
const server = Deno.serve(options, (request, { remoteAddr }) => {
  const client = `${remoteAddr.hostname}:${remoteAddr.port}`;
  try {
    // The two ends are all that it takes; this one may be 0.0.0.0.
    const info = tcpInfo({ localAddr: server.addr, remoteAddr });
    const ms = (us: number) => (us / 1000).toFixed(2);
    console.log(
      `${client} ${request.method} ${new URL(request.url).pathname}: round trip ` +
        `${ms(info.rttUs)} ms ± ${ms(info.rttVarianceUs)}, ` +
        `${info.totalRetransmits} segments sent again`,
    );
  } catch (error) {
    if (!(error instanceof ClosedError)) throw error;
    console.log(`${client} has gone`); // It has closed before we looked.
  }
  return new Response("hello\n");
});
