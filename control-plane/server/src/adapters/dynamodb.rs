//! Records in one DynamoDB table.
//!
//! An item is a record: `pk` and `sk` are its key, `v` its version, `d` its body, `w` the commit that wrote it,
//! `ttl` when the table may forget it. Every commit carries a token. The SDK repeats a request whose answer was
//! lost under the same token, so a transaction that was made is not made twice; a single write, which takes half
//! the capacity when it is no transaction, is recognised by its `w` in the refusal of its repetition.
//!
//! All reads are strongly consistent. DynamoDB refuses one of two transactions that touch the same item at the
//! same time; that is a conflict like any other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, Delete, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableStatus, TimeToLiveSpecification,
    TransactWriteItem,
};

use crate::records::{Body, Key, Record, Records, Stretch, Write, check};
use crate::seams::{BoxFuture, Entropy, StateError, random_id};

/// How to reach a table.
#[derive(Debug, Clone)]
pub struct DynamoOptions {
    /// The table.
    pub table: String,
    /// The region; `None` leaves it to the default chain.
    pub region: Option<String>,
    /// The endpoint of a server that is not AWS.
    pub endpoint_url: Option<String>,
    /// Access key id and secret; `None` leaves them to the default chain.
    pub credentials: Option<(String, String)>,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The longest one sending may take.
    pub attempt_timeout: Duration,
}

/// The table.
#[derive(Clone)]
pub struct DynamoRecords {
    client: Client,
    table: String,
    entropy: Arc<dyn Entropy>,
}

type Item = HashMap<String, AttributeValue>;

/// The condition that a record has the version named `:v`.
const SAME_VERSION: &str = "v = :v";
/// The condition that there is no record.
const ABSENT: &str = "attribute_not_exists(pk)";
/// How long a new table is waited for, in seconds.
const TABLE_WAIT_S: u32 = 120;

impl DynamoRecords {
    /// Prepares a client. No request is made: a wrong table shows at the first use.
    pub async fn new(options: DynamoOptions, entropy: Arc<dyn Entropy>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some((id, secret)) = &options.credentials {
            loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "files"));
        }
        let mut config = aws_sdk_dynamodb::config::Builder::from(&loader.load().await)
            .retry_config(RetryConfig::standard().with_max_attempts(options.attempts))
            .timeout_config(
                TimeoutConfig::builder().operation_attempt_timeout(options.attempt_timeout).build(),
            );
        if let Some(url) = &options.endpoint_url {
            config = config.endpoint_url(url);
        }
        Self { client: Client::from_conf(config.build()), table: options.table, entropy }
    }

    /// Makes the table if it is absent and waits until it takes requests. Says whether it made it.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] if it cannot be made or does not become ready.
    pub async fn create_table(&self) -> Result<bool, StateError> {
        if self.status().await?.is_some() {
            return self.ready().await.map(|()| false);
        }
        let text = |name: &str| {
            let kind = ScalarAttributeType::S;
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let create = self.client.create_table().table_name(&self.table);
        let create = create
            .attribute_definitions(text("pk").map_err(unavailable)?)
            .attribute_definitions(text("sk").map_err(unavailable)?)
            .key_schema(key("pk", KeyType::Hash).map_err(unavailable)?)
            .key_schema(key("sk", KeyType::Range).map_err(unavailable)?)
            .billing_mode(BillingMode::PayPerRequest);
        match create.send().await {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) if error.code() == Some("ResourceInUseException") => {}
            Err(error) => return Err(unavailable(DisplayErrorContext(error))),
        }
        self.ready().await?;
        let ttl = TimeToLiveSpecification::builder().attribute_name("ttl").enabled(true).build();
        let update = self.client.update_time_to_live().table_name(&self.table);
        let update = update.time_to_live_specification(ttl.map_err(unavailable)?);
        update.send().await.map_err(|e| unavailable(DisplayErrorContext(e)))?;
        Ok(true)
    }

    async fn status(&self) -> Result<Option<TableStatus>, StateError> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(told) => Ok(told.table.and_then(|table| table.table_status)),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(unavailable(DisplayErrorContext(error))),
        }
    }

    async fn ready(&self) -> Result<(), StateError> {
        for _ in 0..TABLE_WAIT_S {
            if self.status().await? == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(StateError::Unavailable(format!("table {} did not become active", self.table)))
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, StateError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let got = get.set_key(Some(address(key))).send().await;
        let got = got.map_err(|e| unavailable(DisplayErrorContext(e)))?;
        got.item.as_ref().map(record).transpose()
    }

    async fn query(&self, stretch: Stretch<'_>) -> Result<Vec<Record>, StateError> {
        let (low, high) = stretch.bounds();
        let mut found = Vec::new();
        let mut from = None;
        // One more is asked for, because the first may be `after` itself.
        let page = i32::try_from(stretch.limit.saturating_add(1)).unwrap_or(i32::MAX);
        while low <= high && found.len() < stretch.limit {
            let query = self.client.query().table_name(&self.table).consistent_read(true);
            let query = query
                .key_condition_expression("pk = :p AND sk BETWEEN :l AND :h")
                .expression_attribute_values(":p", AttributeValue::S(stretch.partition.to_owned()))
                .expression_attribute_values(":l", AttributeValue::S(low.clone()))
                .expression_attribute_values(":h", AttributeValue::S(high.clone()))
                .scan_index_forward(!stretch.backwards)
                .limit(page)
                .set_exclusive_start_key(from.take());
            let told = query.send().await.map_err(|e| unavailable(DisplayErrorContext(e)))?;
            for item in told.items() {
                found.push(record(item)?);
            }
            found.retain(|record| stretch.after != Some(record.key.place.as_str()));
            from = told.last_evaluated_key;
            if from.is_none() {
                break;
            }
        }
        found.truncate(stretch.limit);
        Ok(found)
    }

    async fn write(&self, writes: &[Write]) -> Result<(), StateError> {
        check(writes)?;
        let token = random_id(self.entropy.as_ref()).map_err(unavailable)?;
        match writes {
            [Write::Create(key, body)] => self.put(key, 0, body, &token).await,
            [Write::Replace(key, version, body)] => self.put(key, *version, body, &token).await,
            [Write::Remove(key, version)] => self.delete(key, *version).await,
            several => self.transact(several, &token).await,
        }
    }

    async fn put(&self, key: &Key, version: u64, body: &Body, token: &str) -> Result<(), StateError> {
        let put = self.client.put_item().table_name(&self.table);
        let put = put
            .set_item(Some(item(key, version, body, token)))
            .condition_expression(condition(version))
            .set_expression_attribute_values(values(version))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = put.send().await else { return Ok(()) };
        match error.as_service_error() {
            // Our own writing, whose answer was lost on the way.
            Some(PutItemError::ConditionalCheckFailedException(refusal)) if wrote(refusal.item(), token) => {
                Ok(())
            }
            Some(
                PutItemError::ConditionalCheckFailedException(_)
                | PutItemError::TransactionConflictException(_),
            ) => Err(StateError::Conflict(key.to_string())),
            _ => Err(unavailable(DisplayErrorContext(error))),
        }
    }

    /// A repetition whose first sending was made finds nothing and is told of a conflict: the caller reads again
    /// and sees the record gone.
    async fn delete(&self, key: &Key, version: u64) -> Result<(), StateError> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(address(key)));
        let delete =
            delete.condition_expression(SAME_VERSION).set_expression_attribute_values(values(version));
        let Err(error) = delete.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(
                DeleteItemError::ConditionalCheckFailedException(_)
                | DeleteItemError::TransactionConflictException(_),
            ) => Err(StateError::Conflict(key.to_string())),
            _ => Err(unavailable(DisplayErrorContext(error))),
        }
    }

    async fn transact(&self, writes: &[Write], token: &str) -> Result<(), StateError> {
        let items = writes.iter().map(|write| self.transacted(write, token)).collect::<Result<_, _>>()?;
        let transact = self.client.transact_write_items().set_transact_items(Some(items));
        let Err(error) = transact.client_request_token(token).send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                let reasons = canceled.cancellation_reasons().iter().zip(writes);
                let lost = |code: Option<&str>| {
                    matches!(code, Some("ConditionalCheckFailed" | "TransactionConflict"))
                };
                match reasons.into_iter().find(|(reason, _)| lost(reason.code())) {
                    Some((_, write)) => Err(StateError::Conflict(write.key().to_string())),
                    None => Err(unavailable(DisplayErrorContext(error))),
                }
            }
            // The first sending is still being worked on.
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => {
                Err(StateError::Unavailable("a transaction is still in progress".to_owned()))
            }
            _ => Err(unavailable(DisplayErrorContext(error))),
        }
    }

    fn transacted(&self, write: &Write, token: &str) -> Result<TransactWriteItem, StateError> {
        let builder = TransactWriteItem::builder();
        let put = |key, version, body| {
            let put = Put::builder().table_name(&self.table).set_item(Some(item(key, version, body, token)));
            put.condition_expression(condition(version))
                .set_expression_attribute_values(values(version))
                .build()
                .map_err(unavailable)
        };
        Ok(match write {
            Write::Create(key, body) => builder.put(put(key, 0, body)?),
            Write::Replace(key, version, body) => builder.put(put(key, *version, body)?),
            Write::Remove(key, version) => {
                let delete = Delete::builder().table_name(&self.table).set_key(Some(address(key)));
                let delete = delete.condition_expression(SAME_VERSION);
                let delete = delete.set_expression_attribute_values(values(*version)).build();
                builder.delete(delete.map_err(unavailable)?)
            }
            Write::Require(key, version) => {
                let check = ConditionCheck::builder().table_name(&self.table).set_key(Some(address(key)));
                let check = check.condition_expression(SAME_VERSION);
                let check = check.set_expression_attribute_values(values(*version)).build();
                builder.condition_check(check.map_err(unavailable)?)
            }
        }
        .build())
    }
}

impl Records for DynamoRecords {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, StateError>> {
        Box::pin(self.read(key))
    }

    fn list<'a>(&'a self, stretch: Stretch<'a>) -> BoxFuture<'a, Result<Vec<Record>, StateError>> {
        Box::pin(self.query(stretch))
    }

    fn commit<'a>(&'a self, writes: &'a [Write]) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(self.write(writes))
    }
}

fn address(key: &Key) -> Item {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(key.partition.clone())),
        ("sk".to_owned(), AttributeValue::S(key.place.clone())),
    ])
}

/// The item that follows one of this version, 0 for none.
fn item(key: &Key, version: u64, body: &Body, token: &str) -> Item {
    let mut item = address(key);
    item.insert("v".to_owned(), AttributeValue::N(version.saturating_add(1).to_string()));
    item.insert("d".to_owned(), AttributeValue::B(Blob::new(body.bytes.clone())));
    item.insert("w".to_owned(), AttributeValue::S(token.to_owned()));
    if let Some(keep_until) = body.keep_until {
        item.insert("ttl".to_owned(), AttributeValue::N(keep_until.to_string()));
    }
    item
}

const fn condition(version: u64) -> &'static str {
    if version == 0 { ABSENT } else { SAME_VERSION }
}

/// DynamoDB refuses values that no expression uses.
fn values(version: u64) -> Option<Item> {
    (version > 0).then(|| HashMap::from([(":v".to_owned(), AttributeValue::N(version.to_string()))]))
}

fn wrote(standing: Option<&Item>, token: &str) -> bool {
    standing.and_then(|item| item.get("w")?.as_s().ok()).is_some_and(|wrote| wrote == token)
}

fn record(item: &Item) -> Result<Record, StateError> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let version = item.get("v").and_then(|value| value.as_n().ok()?.parse().ok());
    let body = item.get("d").and_then(|value| value.as_b().ok()).map(|blob| blob.as_ref().to_vec());
    match (text("pk"), text("sk"), version, body) {
        (Some(partition), Some(place), Some(version), Some(body)) => {
            Ok(Record { key: Key { partition, place }, version, body })
        }
        (partition, place, ..) => {
            let key = Key::new(partition.unwrap_or_default(), place.unwrap_or_default());
            Err(StateError::Corrupt(format!("{key} is no record")))
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> StateError {
    StateError::Unavailable(error.to_string())
}
