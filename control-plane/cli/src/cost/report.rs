//! A month's statement as text: for people, for spreadsheets, and for cost tools.

use std::fmt::Write;

use sourcing::meter::Statement;
use sourcing::tariff::Dollars;

/// One node's month.
pub(super) struct Section {
    pub(super) site: String,
    pub(super) price_region: String,
    pub(super) statement: Statement,
    /// Lines of a log that could not be read.
    pub(super) skipped: u64,
}

/// For people: one section for each node.
pub(super) fn markdown(sections: &[Section]) -> String {
    sections.iter().map(markdown_section).collect::<Vec<_>>().join("\n")
}

fn markdown_section(section: &Section) -> String {
    let statement = &section.statement;
    let (total, delivered) = (statement.total(), statement.delivered);
    let mut text = format!("# Delivery of {} in {}\n\n", section.site, statement.month);
    let tb = delivered.bytes as f64 / 1e12;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Handed to viewers: {tb:.3} TB in {} requests.\n", delivered.requests);
    text.push_str("| bought from | GB | requests |\n|---|---:|---:|\n");
    for (source, count) in &statement.sources {
        let _ = writeln!(text, "| {source} | {:.3} | {} |", count.bytes as f64 / 1e9, count.requests);
    }
    text.push_str("\n| line | USD |\n|---|---:|\n");
    for (line, usd) in &statement.lines {
        let _ = writeln!(text, "| {line} | {usd:.2} |");
    }
    let _ = writeln!(text, "| **total** | **{total:.2}** |");
    if let Some(per_tb) = per_tb(total, delivered.bytes) {
        let _ = writeln!(text, "| for a TB | {per_tb:.2} |");
    }
    text.push_str("\n| instead | USD | saved | |\n|---|---:|---:|---:|\n");
    for (baseline, usd) in &statement.baselines {
        let saved = *usd - total;
        let _ = writeln!(text, "| {baseline} | {usd:.2} | {saved:.2} | {} |", percent(saved, *usd));
    }
    let _ = writeln!(text, "\nPrice sheet {}.", statement.sheet);
    if section.skipped > 0 {
        let _ = writeln!(text, "{} lines of the log could not be read.", section.skipped);
    }
    text
}

/// Dollars for 10^12 bytes.
pub(super) fn per_tb(total: Dollars, bytes: u64) -> Option<Dollars> {
    // In units of 1,000 bytes the product stays far from any limit.
    (bytes >= 1_000).then(|| total.times(1_000_000_000).share(1, bytes / 1_000))
}

/// `-12.3 %`; nothing of nothing is nothing.
pub(super) fn percent(part: Dollars, whole: Dollars) -> String {
    if whole == Dollars::ZERO {
        return "-".to_owned();
    }
    format!("{:.1} %", part.to_f64() / whole.to_f64() * 100.0)
}

/// One row for each line and each baseline, every digit of each amount.
pub(super) fn csv(sections: &[Section]) -> String {
    let mut text = String::from("month,site,price_region,kind,name,usd\n");
    for Section { site, price_region, statement, .. } in sections {
        let mut row = |kind: &str, name: &str, usd: Dollars| {
            let fields = [&statement.month.to_string(), site, price_region, kind, name, &usd.to_string()];
            text.push_str(&csv_row(&fields));
        };
        statement.lines.iter().for_each(|(line, usd)| row("line", line, *usd));
        row("total", "total", statement.total());
        statement.baselines.iter().for_each(|(baseline, usd)| row("baseline", baseline, *usd));
    }
    text
}

fn csv_row(fields: &[&str]) -> String {
    let quoted = fields.iter().map(|field| {
        let plain = !field.contains([',', '"', '\n', '\r']);
        if plain { (*field).to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

/// The 21 columns that FOCUS 1.2 asks of everybody, and three of our own.
const FOCUS: [&str; 24] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "x_Site",
    "x_PriceRegion",
    "x_PriceSheet",
];

/// One row for each line of the bill. They are estimates from counters: whoever issues the invoice bills them.
pub(super) fn focus(sections: &[Section]) -> String {
    let mut text = csv_row(&FOCUS);
    for Section { site, price_region, statement, .. } in sections {
        let instant = |unix: u64| {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix);
            humantime::format_rfc3339_seconds(at).to_string()
        };
        let (start, end) = (instant(statement.month.start()), instant(statement.month.next().start()));
        for (line, usd) in &statement.lines {
            let (usd, description) = (usd.to_string(), format!("{line} at {site}"));
            let (category, service) = service(line);
            text.push_str(&csv_row(&[
                &usd,
                "weir",
                "Weir",
                "USD",
                &end,
                &start,
                "Usage",
                "",
                &description,
                &end,
                &start,
                &usd,
                &usd,
                "Weir",
                &usd,
                "1",
                "Months",
                "Weir",
                "Weir",
                category,
                service,
                site,
                price_region,
                &statement.sheet,
            ]));
        }
    }
    text
}

/// The service of a line, in FOCUS's words.
fn service(line: &str) -> (&'static str, &'static str) {
    if line == sourcing::meter::NODE_LINE {
        ("Compute", "Edge node")
    } else {
        ("Networking", "Edge delivery")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_for_a_tb_and_shares() {
        let usd = |text: &str| text.parse::<Dollars>().expect(text);
        assert_eq!(per_tb(usd("80282"), 33_750_000_000_000_000).map(Dollars::cents), Some(238));
        assert_eq!(per_tb(usd("1"), 999), None);
        assert_eq!(percent(usd("-1"), usd("8")), "-12.5 %");
        assert_eq!(percent(usd("1"), Dollars::ZERO), "-");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_row(&["a", "b,c", "d\"e"]), "a,\"b,c\",\"d\"\"e\"\n");
        assert_eq!(FOCUS.iter().filter(|name| !name.starts_with("x_")).count(), 21);
    }
}
