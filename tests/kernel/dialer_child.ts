/**
 * A child with permissions of its own, for libc.test.ts: dials a port, with the C
 * library of the second argument if there is one, and prints what came of it as JSON.
 */

import { tcpDialer } from "../../src/kernel/dialer.ts";

const port = Number(Deno.args[0]);
const libc = Deno.args[1];
try {
  const dialer = tcpDialer({
    hostname: "127.0.0.1",
    port,
    ...(libc === undefined ? {} : { libc }),
  });
  const wire = await dialer.dial(AbortSignal.timeout(20_000));
  const { state, bytesAcked } = wire.sample();
  wire.close();
  print({ state, bytesAcked });
} catch (error) {
  if (!(error instanceof Error)) throw error;
  print({
    name: error.name,
    notCapable: error instanceof Deno.errors.NotCapable,
    message: error.message,
  });
}

function print(result: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(result)));
}
