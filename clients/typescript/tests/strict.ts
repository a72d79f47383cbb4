/**
 * What the front end of a strict site does, in the browser of a test; see `test_strict_site.py`.
 * The tokens are kept between the calls.
 */

import {
  createMyoMetricsClient,
  tokensInMemory,
  type ApiError,
  type MyoMetricsClient,
  type Schema,
  type Tokens,
} from "../src/client.js";
import { createPasskey, requestPasskey } from "../src/passkeys.js";

interface Outcome {
  response: Response;
  error?: ApiError | undefined;
}

const store = tokensInMemory();
let client: MyoMetricsClient;

/** The status of a response, or of an error its code and the fields with problems. */
function outcome({ response, error }: Outcome): (number | string)[] {
  if (error === undefined) return [response.status];
  return [response.status, error.code, ...Object.keys(error.field_errors ?? {})];
}

function keep({ data, ...answer }: Outcome & { data?: Tokens | undefined }) {
  if (data !== undefined) store.set({ access: data.access, refresh: data.refresh });
  return outcome(answer);
}

export async function register(origin: string, body: Schema<"RegisterRequest">) {
  client = createMyoMetricsClient(origin, store);
  return keep(await client.POST("/api/auth/register/", { body }));
}

export async function addPasskey() {
  const body = { ...(await createPasskey(client)), name: "Phone" };
  const { data, ...answer } = await client.POST("/api/auth/passkeys/register/verify/", { body });
  return [...outcome(answer), data?.recovery_codes.length];
}

export async function signOut() {
  const body = { refresh: store.get()?.refresh ?? "" };
  return outcome(await client.POST("/api/auth/logout/", { body }));
}

export async function signIn() {
  const body = await requestPasskey(client);
  return keep(await client.POST("/api/auth/login/passkey/verify/", { body }));
}

/** Sign in with the password, then with the passkey. */
export async function signInTwice(credentials: Schema<"LoginRequest">) {
  const { data, ...answer } = await client.POST("/api/auth/login/", { body: credentials });
  if (data === undefined || !("mfa_required" in data)) return outcome(answer);
  const passkey = await requestPasskey(client, { mfaToken: data.mfa_token });
  const body = { mfa_token: data.mfa_token, ...passkey };
  return keep(await client.POST("/api/auth/login/mfa/", { body }));
}

/** Replace the tokens. */
export async function refresh() {
  const { refresh: old } = store.get() ?? { refresh: "" };
  const answer = await client.POST("/api/auth/token/refresh/", { body: { refresh: old } });
  const fresh = answer.data?.refresh;
  if (answer.data !== undefined && fresh !== undefined) {
    store.set({ access: answer.data.access, refresh: fresh });
  }
  return [...outcome(answer), fresh !== undefined && fresh !== old];
}

export async function reauthenticate() {
  const body = await requestPasskey(client);
  return outcome(await client.POST("/api/auth/reauthenticate/", { body }));
}

/** Export as JSON; returns the text as well. */
export async function exportData() {
  const { data, ...answer } = await client.GET("/api/users/me/export/", {
    params: { query: { format: "json" } },
    parseAs: "text",
  });
  return [...outcome(answer), data];
}

export async function changeEmail(body: Schema<"EmailChangeRequestRequest">) {
  return outcome(await client.POST("/api/auth/email/", { body }));
}

export async function resetPassword(body: Schema<"PasswordResetConfirmRequest">) {
  return outcome(await client.POST("/api/auth/password-reset/confirm/", { body }));
}

export async function profile() {
  return outcome(await client.GET("/api/auth/user/"));
}

export async function deleteAccount() {
  return outcome(await client.DELETE("/api/users/me/"));
}
