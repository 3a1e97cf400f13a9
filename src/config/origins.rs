//! The origins of web pages, as `POSTRIDER_ALLOW_ORIGINS` names them.

use std::str::FromStr;

/// Origins of web pages, as browsers write them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// None but our own, which needs no permission.
    #[default]
    None,
    /// These: scheme, host and, unless it is the scheme's own, port.
    These(Vec<String>),
    /// All.
    Any,
}

impl Origins {
    pub(super) fn read(text: Option<&str>) -> anyhow::Result<Self> {
        text.unwrap_or_default().parse().map_err(|why| anyhow::anyhow!("POSTRIDER_ALLOW_ORIGINS: {why}"))
    }
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let origins: Vec<&str> = text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        match origins.as_slice() {
            [] => return Ok(Self::None),
            ["*"] => return Ok(Self::Any),
            _ => {}
        }
        for origin in &origins {
            // Compared with what browsers send, character by character: only what they can send may stand here.
            let sent = url::Url::parse(origin).map(|url| url.origin().ascii_serialization());
            if sent.as_deref() != Ok(origin) {
                return Err(format!(
                    "`{origin}` is not an origin such as https://shop.example or http://localhost:3000"
                ));
            }
        }
        Ok(Self::These(origins.into_iter().map(str::to_owned).collect()))
    }
}
