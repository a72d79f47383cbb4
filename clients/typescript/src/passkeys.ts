/** Passkeys by the browser's `navigator.credentials`. */

import type { ApiError, MyoMetricsClient, Schema } from "./client.js";

/** The API refused the options; `error` says why. */
export class PasskeyRefused extends Error {
  constructor(readonly error: ApiError | undefined) {
    super(error?.detail ?? "no options");
  }
}

export interface PasskeyRequest {
  /** The `mfa_token` of the password step: the passkey is the second factor. */
  mfaToken?: string;
  /** Offer passkeys in the form's input with `autocomplete="username webauthn"`. */
  conditional?: boolean;
  /** Ends the request, for example when the form is sent. */
  signal?: AbortSignal;
}

/** Whether this browser can use passkeys. */
export function supportsPasskeys(): boolean {
  return (
    typeof PublicKeyCredential === "function" &&
    "parseRequestOptionsFromJSON" in PublicKeyCredential
  );
}

/**
 * Ask the user for a passkey: the body of `auth/login/passkey/verify/`, of `auth/login/mfa/` beside
 * its `mfa_token`, and of `auth/reauthenticate/`.
 *
 * Throws `PasskeyRefused`, and the browser's `DOMException` if the user cancels.
 */
export async function requestPasskey(
  client: MyoMetricsClient,
  { mfaToken, conditional = false, signal }: PasskeyRequest = {},
): Promise<Schema<"SignInWithPasskeyRequest">> {
  const { data, error } = await client.POST("/api/auth/login/passkey/options/", {
    body: mfaToken === undefined ? {} : { mfa_token: mfaToken },
  });
  if (data === undefined) throw new PasskeyRefused(error);
  const json = data.publicKey as unknown as PublicKeyCredentialRequestOptionsJSON;
  const credential = await navigator.credentials.get({
    publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(json),
    mediation: conditional ? "conditional" : "optional",
    ...(signal && { signal }),
  });
  return { passkey: asJson(credential) };
}

/**
 * Create a passkey for the signed-in user: the body of `auth/passkeys/register/verify/`, to which a
 * `name` can be added.
 *
 * `password` can be omitted for ten minutes after a sign-in. Throws as `requestPasskey` does.
 */
export async function createPasskey(
  client: MyoMetricsClient,
  password?: string,
): Promise<Schema<"NewPasskeyRequest">> {
  const { data, error } = await client.POST("/api/auth/passkeys/register/options/", {
    body: password === undefined ? {} : { password },
  });
  if (data === undefined) throw new PasskeyRefused(error);
  const json = data.publicKey as unknown as PublicKeyCredentialCreationOptionsJSON;
  const credential = await navigator.credentials.create({
    publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(json),
  });
  return { passkey: asJson(credential) };
}

function asJson(credential: Credential | null): Record<string, unknown> {
  if (credential === null) throw new DOMException("No passkey.", "NotAllowedError");
  return (credential as PublicKeyCredential).toJSON() as Record<string, unknown>;
}
