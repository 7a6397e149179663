//! Signature version 4, for the one shape of request that is needed: `POST /` with a JSON body.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::{digest, hmac};

use super::AwsCredentials;

/// What is signed.
pub(super) struct Signed<'a> {
    /// Host with port where there is one.
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `X-Amz-Target`.
    pub(super) target: &'a str,
    pub(super) body: &'a [u8],
    pub(super) keys: &'a AwsCredentials,
    pub(super) now: Timestamp,
}

/// The headers of the request.
pub(super) fn sign(request: &Signed<'_>) -> Vec<(&'static str, String)> {
    let utc = request.now.to_zoned(TimeZone::UTC);
    let time = utc.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];

    // In the order in which they are signed: by name.
    let mut headers = vec![
        ("content-type", "application/x-amz-json-1.1".to_owned()),
        ("host", request.host.to_owned()),
        ("x-amz-date", time.clone()),
    ];
    if let Some(token) = &request.keys.session_token {
        headers.push(("x-amz-security-token", token.expose().to_owned()));
    }
    headers.push(("x-amz-target", request.target.to_owned()));

    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let body = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{body}");

    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");

    let first = format!("AWS4{}", request.keys.secret_access_key.expose());
    let parts = [day, request.region, request.service, "aws4_request", &text];
    let signature = parts.iter().fold(first.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        request.keys.access_key_id,
        hex(&signature)
    );
    // The client sets this one itself.
    headers.retain(|(name, _)| *name != "host");
    headers.push(("authorization", authorization));
    headers
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{hex, mac};

    /// AWS's published example of a derived signing key.
    #[test]
    fn the_signing_key_is_derived_as_aws_says() {
        let first = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        let key = ["20150830", "us-east-1", "iam", "aws4_request"]
            .iter()
            .fold(first, |key, part| mac(&key, part.as_bytes()));
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }
}
