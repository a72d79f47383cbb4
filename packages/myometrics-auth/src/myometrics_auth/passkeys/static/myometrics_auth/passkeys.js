/* Forms that send a passkey instead of typed values. */
"use strict";

function toBytes(text) {
  const plain = text.replace(/-/g, "+").replace(/_/g, "/");
  return Uint8Array.from(atob(plain), (letter) => letter.charCodeAt(0));
}

function toText(buffer) {
  const plain = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  return plain.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

async function requestPasskey(form) {
  const answer = await fetch(form.dataset.options, {
    method: "POST",
    headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
  });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const { publicKey } = await answer.json();
  publicKey.challenge = toBytes(publicKey.challenge);
  for (const known of publicKey.allowCredentials ?? []) known.id = toBytes(known.id);
  const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
  return {
    id,
    rawId: toText(rawId),
    type,
    response: {
      clientDataJSON: toText(response.clientDataJSON),
      authenticatorData: toText(response.authenticatorData),
      signature: toText(response.signature),
      userHandle: response.userHandle ? toText(response.userHandle) : null,
    },
  };
}

for (const form of document.querySelectorAll("form.mm-passkey")) {
  form.hidden = !window.PublicKeyCredential;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = form.querySelector(".errornote");
    problem.hidden = true;
    try {
      form.elements.passkey.value = JSON.stringify(await requestPasskey(form));
      form.submit();
    } catch (error) {
      problem.hidden = false;
    }
  });
}
