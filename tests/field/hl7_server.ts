/**
 * An HL7 server made with simple-hl7, as its users make one: `hl7_server.ts PORT FILE`
 * writes the control id of each message that it takes into the file, refuses those whose
 * id ends with 7, and answers each.
 *
 * @module
 */

import hl7 from "simple-hl7";

const [port = "", file = ""] = Deno.args;

interface Segment {
  getField(index: number): unknown;
  setField(index: number, value: string): void;
}
interface Message {
  readonly header: Segment;
  getSegment(name: string): Segment;
}
interface Exchange {
  readonly msg: Message;
}
interface Reply {
  readonly ack: Message;
  end(): void;
}

const app = hl7.tcp();
app.use((request: Exchange, reply: Reply) => {
  // MSH-1 is the separator itself, so that MSH-10 is the eighth field behind MSH-2.
  const id = String(request.msg.header.getField(8));
  if (id.endsWith("7")) reply.ack.getSegment("MSA").setField(1, "AE");
  else Deno.writeTextFileSync(file, `${id}\n`, { append: true });
  reply.end();
});
app.start(Number(port));
